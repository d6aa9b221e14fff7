"""One door to a model: every kind of folder opens, adapters over their base, and a bad one is told in one sentence."""

import json
import shutil

import pytest
import tiny
import tiny_multimodal
import torch
from safetensors.torch import load_file, save_file
from tiny_comalign import make_model as make_heads
from transformers import (
    AlignConfig,
    AutoModelForImageTextToText,
    BertConfig,
    CLIPConfig,
    CLIPModel,
    DetrConfig,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    ViTConfig,
)

from compalign.modeling import CECLIPModel, DeGLACLIPModel, Kind, kind_of, load_model, load_processor
from compalign.modeling.kinds import kind_of_config, name_of
from compalign.trainers.adapters import AdapterArguments, add_adapters

RELEASED = "hub_cards/released"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP with its processor."""
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny.make_model(CLIPModel).save_pretrained(folder)
    tiny.make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A tiny LLaVA with its processor."""
    folder = tmp_path_factory.mktemp("models") / "llava"
    tiny_multimodal.make_model("llava").save_pretrained(folder)
    tiny_multimodal.make_processor("llava").save_pretrained(folder)
    return folder


def adapt(base, folder, **arguments):
    """Save an adapter with random weights on both sides, so that it changes the answers."""
    model = add_adapters(load_model(base), AdapterArguments(lora_rank=2, **arguments))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return model


def text_features(model, processor):
    """A dual encoder's embedding of a caption."""
    inputs = processor.tokenizer(["a red cat above a blue star"], return_tensors="pt")
    with torch.inference_mode():
        return model.get_text_features(**inputs).pooler_output


def test_the_kind_of_a_folder_is_that_of_its_model(clip, llava, tmp_path):
    assert kind_of(clip) is Kind.DUAL_ENCODER
    assert kind_of(llava) is Kind.IMAGE_TEXT_TO_TEXT
    make_heads().save_pretrained(tmp_path / "heads")
    assert kind_of(tmp_path / "heads") is Kind.COMALIGN
    assert kind_of_config(SiglipConfig(), "siglip") is Kind.DUAL_ENCODER
    assert kind_of_config(DetrConfig(), "detr") is Kind.DETECTOR
    assert kind_of_config(AlignConfig(), "align") is Kind.DUAL_ENCODER  # without a logit scale; its cosines compare
    assert kind_of_config(VisionTextDualEncoderConfig(vision_config=ViTConfig(), text_config=BertConfig()), "") is (
        Kind.DUAL_ENCODER
    )


def test_a_model_of_no_kind_is_refused_with_the_accepted_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"is of type 'bert'; accepted: comalign, .*clip.* such as llava$"):
        kind_of(tmp_path)


@pytest.mark.parametrize("name", ["scenes_base", "scenes_degla", "scenes_ceclip", "scenes_comalign", "scenes_cal"])
def test_every_small_model_opens(name, repository):
    folder = repository / RELEASED / name
    model = load_model(folder)
    assert not model.training
    assert model.dtype == torch.float32
    assert hasattr(load_processor(folder), "image_processor")


def test_a_dual_encoder_of_another_family_opens(tmp_path):
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 100, "projection_size": 32},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(tmp_path)
    assert isinstance(load_model(tmp_path), SiglipModel)


def test_a_checkpoint_loads_into_the_class_that_is_asked_for(clip):
    assert isinstance(load_model(clip), CLIPModel)
    assert isinstance(load_model(clip, DeGLACLIPModel), DeGLACLIPModel)
    assert load_model(clip, CECLIPModel, num_negatives=3).rank_threshold.tolist() == [0.0, 0.0, 0.0]
    assert load_model(clip, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("merged", [False, True])
def test_an_adapter_opens_over_its_base(merged, clip, tmp_path):
    trained = adapt(clip, tmp_path / "adapter").eval()
    processor = load_processor(tmp_path / "adapter")  # its base's
    found = load_model(tmp_path / "adapter", merge_adapter=merged)
    assert isinstance(found, CLIPModel) == merged
    wanted, base = text_features(trained, processor), text_features(load_model(clip), processor)
    torch.testing.assert_close(text_features(found, processor), wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - base).abs().max() > 1e-2
    assert kind_of(tmp_path / "adapter") is Kind.DUAL_ENCODER


def test_an_adapter_of_an_image_text_to_text_model_opens(llava, tmp_path):
    adapt(llava, tmp_path / "adapter", adapted=["text"])
    assert kind_of(tmp_path / "adapter") is Kind.IMAGE_TEXT_TO_TEXT
    assert type(load_model(tmp_path / "adapter").get_base_model()) is type(
        AutoModelForImageTextToText.from_pretrained(llava)
    )
    assert load_processor(tmp_path / "adapter").image_token == "<image>"


def test_an_adapter_whose_base_is_named_beside_it_opens(clip, tmp_path):
    shutil.copytree(clip, tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "../base"
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    assert load_model(tmp_path / "adapter").base_model is not None


def test_an_adapter_without_a_base_is_refused(clip, tmp_path):
    adapt(clip, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match=r"adapter_config\.json names no base"):
        load_model(tmp_path)


@pytest.mark.parametrize("missing", ["all", "tokenizer.json"])
def test_a_folder_without_its_tokenizer_is_refused(missing, clip, tmp_path):
    """transformers makes up a CLIP tokenizer of two tokens where the files are missing."""
    folder = shutil.copytree(clip, tmp_path / "model")
    for path in folder.glob("tokenizer*" if missing == "all" else missing):
        path.unlink()
    with pytest.raises(
        ValueError, match=r"model.*(a tokenizer of 2 tokens does not fit a model with a vocabulary of 6\d\d|cannot be)"
    ):
        load_processor(folder)


def test_a_tokenizer_of_another_model_is_refused(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    rows = config["text_config"]["vocab_size"]
    config["text_config"]["vocab_size"] = 49408
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"a tokenizer of {rows} tokens .* vocabulary of 49,408"):
        load_processor(folder)
    config["text_config"] |= {"vocab_size": rows, "eos_token_id": 7}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the model reads it at id 7"):
        load_processor(folder)


def test_openais_legacy_end_of_text_is_accepted(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    assert load_processor(folder).tokenizer.eos_token_id != 2


@pytest.mark.parametrize("name", ["epoch_5.pt", "pytorch_model.bin", "open_clip.safetensors"])
def test_a_file_of_weights_is_refused_with_the_command_that_reads_it(name, tmp_path):
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(
        ValueError, match=rf"{name} is a file of weights.*compalign convert --source .*{name} --output_dir"
    ):
        load_model(tmp_path / name)
    with pytest.raises(ValueError, match=rf"holds no config\.json .*it has {name}, which compalign convert reads"):
        load_processor(tmp_path)


def test_a_misspelt_folder_is_refused_with_the_nearest(clip):
    with pytest.raises(ValueError, match=r"there is no folder .*clop; the nearest is .*clip$"):
        load_model(clip.with_name("clop"))
    with pytest.raises(ValueError, match=r"there is no folder \./nowhere/at/all"):
        load_model("./nowhere/at/all")


def test_a_hub_id_that_cannot_be_reached_is_one_sentence():
    with pytest.raises(ValueError, match=r"^nobody/nothing cannot be loaded: ") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_folder_of_runs_names_the_models_in_it(clip, tmp_path):
    shutil.copytree(clip, tmp_path / "degla")
    with pytest.raises(ValueError, match="it has folders that do: degla"):
        load_model(tmp_path)


def test_missing_weights_are_refused(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of a CLIPModel, such as text_projection\.weight"):
        load_model(folder)


def test_weights_of_another_shape_are_refused(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "model")
    config = CLIPConfig.from_pretrained(folder)
    config.projection_dim = 8
    config.save_pretrained(folder)
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_model_is_called_by_its_folder_or_its_hub_id(clip, monkeypatch):
    assert name_of(clip) == "clip"
    assert name_of("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    monkeypatch.chdir(clip)
    assert name_of(".") == "clip"
