"""The convert command: official checkpoints in, models that load and answer as the original did, and the way back."""

import json

import pytest
import torch
from official_checkpoints import clip_tower_shapes, llava_config, llava_weights, open_clip_shapes, save_sharded_bin
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_multimodal import VOCABULARY, train_tokenizer
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaTokenizer,
)

from compalign.modeling import CECLIPModel, ComAlignModel, DeGLACLIPModel
from compalign.scripts import cli
from compalign.scripts.convert import main

TINY_HEADS = ["--vision_heads", "4", "--text_heads", "4"]


@pytest.fixture(scope="module")
def formats(shared):
    """Tiny official checkpoints with what the original code answered."""
    return shared / "data" / "formats"


@pytest.fixture
def reference(formats, tmp_path):
    """Make a reference file: the original's inputs, and its features with one activation."""

    def make(activation):
        given = load_file(formats / "clip" / "reference.safetensors")
        features = {name: given[f"{activation}.{name}"] for name in ("image_features", "text_features")}
        path = tmp_path / f"{activation}.safetensors"
        save_file({"images": given["images"], "text": given["text"], **features}, path)
        return str(path)

    return make


def record_of(folder):
    """What the conversion wrote down."""
    return json.loads((folder / "conversion.json").read_text())


def convert(source, folder, *flags):
    """Run the command as a user does, in the process."""
    main(["--source", str(source), "--output_dir", str(folder), *map(str, flags)])
    return folder


@pytest.mark.parametrize(
    ("kind", "model_class"), [("clip", CLIPModel), ("degla_clip", DeGLACLIPModel), ("ce_clip", CECLIPModel)]
)
def test_a_released_checkpoint_becomes_each_kind_of_dual_encoder(formats, tmp_path, kind, model_class):
    flags = ["--kind", kind, "--activation", "quick_gelu", *TINY_HEADS]
    folder = convert(formats / "clip" / "epoch_5.pt", tmp_path / "out", *flags)
    model, loading = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(AutoModel.from_pretrained(folder)) is model_class
    given = load_file(formats / "clip" / "reference.safetensors")
    answer = model.eval()(input_ids=given["text"], pixel_values=given["images"])
    torch.testing.assert_close(
        answer.logits_per_image.double(), given["quickgelu.logits_per_image"], rtol=1e-4, atol=5e-4
    )
    assert AutoImageProcessor.from_pretrained(folder).crop_size == {"height": 32, "width": 32}
    assert (folder / f"modeling_{kind}.py").exists() == (kind != "clip")


def test_the_record_says_what_was_read_and_decided(formats, tmp_path):
    source = formats / "clip" / "epoch_5.pt"
    folder = convert(source, tmp_path / "out", "--kind", "degla_clip", "--activation", "quick_gelu")
    record = record_of(folder)
    assert record["source"] == {"epoch_5.pt": "87bf4ce7c10446a017b23a8b4c9e70abcb3e00b1085bda764f9c0893b821b1b3"}
    assert record["activation"] == {"value": "quick_gelu", "known_by": "asked for"}
    assert (record["kind"], record["prefix"], record["layout"]["name"]) == ("degla_clip", "module.", "open_clip")
    assert record["about"] == {"epoch": 5, "name": "tiny-openclip"}
    assert record["versions"].keys() == {"compalign", "transformers", "torch", "safetensors"}


@pytest.mark.parametrize(("key", "value"), [("quickgelu", "quick_gelu"), ("gelu", "gelu")])
def test_a_reference_tells_the_activation(formats, tmp_path, reference, capsys, key, value):
    folder = convert(
        formats / "clip" / "epoch_5.pt", tmp_path / "out", "--kind", "degla_clip", "--reference", reference(key)
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == value
    record = record_of(folder)
    assert record["activation"] == {"value": value, "known_by": f"agrees with {key}.safetensors, the other does not"}
    assert max(record["differences"].values()) < 2e-5
    assert f"{value}: image_features differs from the reference by" in capsys.readouterr().out


def test_a_wrong_activation_does_not_pass_its_reference(formats, tmp_path, reference, capsys):
    source, folder = formats / "clip" / "epoch_5.pt", tmp_path / "out"
    flags = ["--kind", "clip", "--activation", "gelu", "--reference", reference("quickgelu")]
    with pytest.raises(ValueError, match=r"no result of gelu agrees within tolerance=0\.001"):
        convert(source, folder, *flags)
    assert not (folder / "config.json").exists()
    assert "differs from the reference by 2.3" in capsys.readouterr().out


def test_an_activation_that_nothing_tells_is_asked_for_before_anything_is_written(formats, tmp_path):
    with pytest.raises(ValueError, match=r"activation of 'epoch_5\.pt', 'tiny-openclip' is not known.*Give activation"):
        convert(formats / "clip" / "epoch_5.pt", tmp_path / "out", "--kind", "degla_clip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["epoch_5.pt", "epoch_5.safetensors"])
def test_the_way_back_gives_the_checkpoint_bit_for_bit(formats, tmp_path, file):
    flags = ["--kind", "ce_clip", "--activation", "gelu", "--num_negatives", "3"]
    folder = convert(formats / "clip" / file, tmp_path / "hf", *flags)
    assert CECLIPModel.from_pretrained(folder).rank_threshold.tolist() == [0, 0, 0]
    back = convert(folder, tmp_path / "back", "--original")
    assert record_of(back)["left_out"] == ["rank_threshold"]
    assert (record_of(folder)["original"], record_of(back)["original"]) == (False, True)
    written = torch.load(back / "epoch_5.pt", weights_only=True)
    original = torch.load(formats / "clip" / "epoch_5.pt", weights_only=True)
    assert (str(written["epoch"]), written["name"]) == ("5", "tiny-openclip")
    assert written["state_dict"].keys() == original["state_dict"].keys()
    for name, tensor in original["state_dict"].items():
        assert written["state_dict"][name].dtype == tensor.dtype
        assert torch.equal(written["state_dict"][name], tensor)
    assert (back / "epoch_5.pt").stat().st_size < 1.2 * (formats / "clip" / "epoch_5.pt").stat().st_size


def test_a_trained_model_goes_to_open_clip_without_a_record(tmp_path, clip_like):
    back = convert(clip_like, tmp_path / "back", "--original")
    written = torch.load(back / "epoch_0.pt", weights_only=True)
    assert written["name"] == "clip"
    assert written["state_dict"]["visual.proj"].shape == (48, 32)


@pytest.fixture
def clip_like(formats, tmp_path):
    """CLIP in transformers' layout, as ZeRO-3 saves it."""
    weights = load_file(formats / "clip" / "hf_layout.safetensors")
    doubled = {
        f"{tower}.{name}" if (tower := name.split(".")[0]) in ("text_model", "vision_model") else name: tensor
        for name, tensor in weights.items()
    }
    folder = tmp_path / "zero3"
    folder.mkdir()
    save_file(doubled, folder / "model.safetensors")
    plain = convert(
        formats / "clip" / "epoch_5.pt", tmp_path / "plain", "--kind", "clip", "--activation", "gelu", *TINY_HEADS
    )
    (folder / "config.json").write_bytes((plain / "config.json").read_bytes())
    return folder


def test_a_model_that_zero_saved_gets_its_proper_names(formats, tmp_path, clip_like):
    folder = convert(clip_like, tmp_path / "out", "--kind", "degla_clip")
    assert record_of(folder)["activation"] == {"value": "gelu", "known_by": "config.json"}
    expected = load_file(formats / "clip" / "hf_layout.safetensors")
    written = load_file(folder / "model.safetensors")
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    assert DeGLACLIPModel.from_pretrained(folder).config.text_config.num_attention_heads == 4


def test_the_image_size_can_be_changed_as_in_the_original(formats, tmp_path):
    given = load_file(formats / "clip" / "reference.safetensors")
    path = tmp_path / "reference.safetensors"
    save_file({"images": given["images48"], "image_features": given["resized48.image_features"]}, path)
    flags = ["--kind", "clip", "--activation", "quick_gelu", "--image_size", 48, "--reference", path]
    folder = convert(formats / "clip" / "epoch_5.pt", tmp_path / "out", *flags, "--tolerance", 2e-5)
    assert AutoImageProcessor.from_pretrained(folder).crop_size == {"height": 48, "width": 48}


def test_clips_tokenizer_is_written_from_its_merges(shared, tmp_path):
    """A ViT-B/32 without its weights' values: all zeros, of the real shapes, in half precision."""
    weights = {name: torch.zeros(t.shape, dtype=torch.half) for name, t in open_clip_shapes("ViT-B-32").items()}
    torch.save({"epoch": 3, "name": "ViT-B-32-quickgelu", "state_dict": weights}, tmp_path / "epoch_3.pt")
    bpe = shared / "data" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"
    folder = convert(tmp_path / "epoch_3.pt", tmp_path / "out", "--kind", "degla_clip", "--bpe", bpe)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer("a photo of a dog").input_ids == [49406, 320, 1125, 539, 320, 1929, 49407]
    assert processor.tokenizer.model_max_length == 77
    assert processor.image_processor.crop_size["height"] == 224
    assert record_of(folder)["activation"]["known_by"] == "'quickgelu' in 'ViT-B-32-quickgelu'"
    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["vision_config"]["num_attention_heads"]) == ("float16", 12)


def test_a_vocabulary_of_another_size_is_refused(shared, formats, tmp_path):
    bpe = shared / "data" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz"
    flags = ["--kind", "clip", "--activation", "gelu", "--bpe", bpe]
    with pytest.raises(ValueError, match="has 49408 tokens, the checkpoint 512"):
        convert(formats / "clip" / "epoch_5.pt", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("quick", "value"), [(True, "quick_gelu"), (False, "gelu")])
def test_open_clips_configuration_tells_heads_activation_and_normalisation(formats, tmp_path, quick, value):
    vision = {"image_size": 32, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
    model = {"embed_dim": 32, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": {"width": 32, "heads": 2}}
    config = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "epoch_5.pt").write_bytes((formats / "clip" / "epoch_5.pt").read_bytes())
    folder = convert(tmp_path / "epoch_5.pt", tmp_path / "out", "--kind", "clip")
    written = CLIPModel.from_pretrained(folder).config
    assert (written.vision_config.num_attention_heads, written.text_config.num_attention_heads) == (4, 2)
    assert written.vision_config.hidden_act == written.text_config.hidden_act == value
    assert list(AutoImageProcessor.from_pretrained(folder).image_mean) == [0.5, 0.5, 0.5]


def test_comalign_goes_both_ways_and_answers_as_the_original(shared, formats, tmp_path):
    source = formats / "comalign" / "retrieval_model_h64.pt"
    given = load_file(shared / "golden" / "comalign" / "model_h64.safetensors")
    reference = {
        "image_components": given["boxes"].float(),
        "image_global": given["image_global"].float(),
        "components": given["components_official"],
        "global": given["global_official"],
    }
    save_file(reference, tmp_path / "reference.safetensors")
    flags = ["--reference", tmp_path / "reference.safetensors", "--tolerance", 2e-5]
    folder = convert(source, tmp_path / "hf", *flags)
    model, loading = ComAlignModel.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.score == "released"
    back = convert(folder, tmp_path / "back", "--original")
    (folder / "original_only.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"original_only\.safetensors is missing"):
        convert(folder, tmp_path / "again", "--original")
    written = torch.load(back / source.name, weights_only=True)
    original = torch.load(source, weights_only=True)
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in original.items())


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_llava_goes_both_ways_and_answers_as_the_original(formats, tmp_path, file):
    given = load_file(formats / "llava" / "reference.safetensors")
    reference = {
        "images": given["batch_images"],
        "text": given["batch_prompt"],
        "logits": given["batch_logits_official"],
    }
    save_file(reference, tmp_path / "reference.safetensors")
    flags = ["--reference", tmp_path / "reference.safetensors", "--shard_gb", 1e-4, "--tolerance", 2e-5]
    folder = convert(formats / "llava" / file, tmp_path / "hf", *flags)
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model).__name__ == "LlavaCALForConditionalGeneration"
    assert (model.config.image_token_index, model.get_input_embeddings().num_embeddings) == (80, 128)
    back = convert(folder, tmp_path / "back", "--original")
    written = {}
    for shard in back.glob("*.safetensors"):
        written |= load_file(shard)
    original = load_file(formats / "llava" / "model.safetensors")
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in original.items())
    assert json.loads((back / "config.json").read_text()) == json.loads((formats / "llava" / "config.json").read_text())


def write_llava(folder, tiled, tower=True):
    """An official LLaVA in shards, with the tokenizer that comes with it."""
    config = llava_config(64, 96, 2, tiled=tiled, vocab_size=VOCABULARY)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_sharded_bin(llava_weights(config, vision=64, tower=tower), folder, shards=3)
    vocabulary, merges = train_tokenizer()
    plain = {token: index for token, index in vocabulary.items() if token not in ("<pad>", "<image>")}
    names = {index: token for token, index in plain.items()}
    # LLaVA's tokenizer knows no image and pads with <unk>.
    numbered = {names.get(index, f"<unused{index}>"): index for index in range(VOCABULARY)}
    LlamaTokenizer(numbered, merges, pad_token="<unk>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tiled", [False, True], ids=["llava", "llava_next"])
def test_a_converted_llava_reads_pictures_through_its_processor(tmp_path, tiled):
    source = write_llava(tmp_path / "official", tiled)
    folder = convert(source, tmp_path / "hf")
    assert record_of(folder)["kind"] == ("llava_next_cal" if tiled else "llava_cal")
    assert record_of(folder)["activation"]["known_by"] == "'openai' in 'openai/clip-vit-large-patch14-336'"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    assert tokenizer.convert_tokens_to_ids(["<image>", "<pad>"]) == [VOCABULARY, VOCABULARY + 1]
    assert (model.config.image_token_index, model.config.text_config.pad_token_id) == (VOCABULARY, VOCABULARY + 1)
    assert model.get_output_embeddings().weight.shape[0] == 320
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is left of the cube?"}]}
    text = processor.apply_chat_template([question], add_generation_prompt=True)
    assert text == "USER: <image>\nWhat is left of the cube? ASSISTANT:"
    inputs = processor(images=Image.new("RGB", (50, 30), "red"), text=text, return_tensors="pt")
    assert (inputs["input_ids"] == VOCABULARY).sum() > 16 * (1 + tiled) - 1
    assert model(**inputs).logits.isfinite().all()
    if not tiled:
        assert processor.image_processor.do_pad
    else:
        assert processor.image_processor.image_grid_pinpoints == model.config.image_grid_pinpoints


def test_an_image_tower_that_the_checkpoint_has_not_is_taken_from_clip(tmp_path):
    source = write_llava(tmp_path / "official", tiled=False, tower=False)
    with pytest.raises(ValueError, match="has no image tower: give --vision_tower"):
        convert(source, tmp_path / "hf")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    tower = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=7, hidden_act="gelu"))
    tower.save_pretrained(tmp_path / "tower")
    folder = convert(source, tmp_path / "hf", "--vision_tower", tmp_path / "tower")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert record_of(folder)["activation"] == {"value": "gelu", "known_by": "config.json of the vision tower"}
    assert model.config.vision_config.num_attention_heads == 4
    weight = model.get_encoder("image").state_dict()["encoder.layers.1.mlp.fc1.weight"]
    torch.testing.assert_close(
        weight.float(), tower.state_dict()["encoder.layers.1.mlp.fc1.weight"], rtol=1e-2, atol=1e-3
    )
    assert {f"vision_model.{name}" for name in tower.state_dict()} == clip_tower_shapes(64).keys()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kind", "comalign"], "kind=comalign: .* can become clip, degla_clip, ce_clip"),
        ([], "can become clip, degla_clip, ce_clip: say which with kind"),
        (["--original"], "--original: .* is in that layout already"),
        (
            ["--kind", "clip", "--activation", "gelu", "--vision_heads", "5"],
            "vision_heads=5 does not divide the width 48",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_choices(formats, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        convert(formats / "clip" / "epoch_5.pt", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(formats, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not empty"):
        convert(formats / "clip" / "epoch_5.pt", tmp_path, "--kind", "clip", "--activation", "gelu")


def test_a_malicious_pickle_ends_with_one_line_and_leaves_nothing(formats, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "convert", "convert checkpoints")
    status = cli.main(["convert", "--source", str(formats / "evil.pt"), "--output_dir", "out", "--kind", "clip"])
    printed = capsys.readouterr().err
    assert status == 2
    assert printed.startswith("compalign convert:")
    assert "nothing was run. Ask for a safetensors file" in printed
    assert list(tmp_path.iterdir()) == []
