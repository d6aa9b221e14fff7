"""LLaVA for CAL is LLaVA: whatever transformers does for one by its name, it does for the other, both ways."""

import json
import logging
import re
import shutil
from typing import NamedTuple

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_multimodal import FAMILIES, make_batch, make_model, make_processor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForPreTraining,
    AutoProcessor,
    CLIPVisionConfig,
    GenerationMixin,
    LlamaConfig,
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    PreTrainedModel,
    pipeline,
)
from transformers.models.auto import modeling_auto
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.utils import logging as transformers_logging

from compalign.modeling import LlavaCALConfig, LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration

CLASSES = {
    "llava": (LlavaForConditionalGeneration, LlavaCALForConditionalGeneration),
    "llava_next": (LlavaNextForConditionalGeneration, LlavaNextCALForConditionalGeneration),
}
AUTO_CLASSES = (AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForPreTraining)

# From today's names of weights to those of transformers 4.
OLD_NAMES = {
    r"^lm_head": "language_model.lm_head",
    r"^model\.language_model": "language_model.model",
    r"^model\.vision_tower": "vision_tower.vision_model",
    r"^model\.": "",
}


class Twins(NamedTuple):
    """A plain model and ours with the same weights, the folders of both with processors, and inputs."""

    family: str
    plain: PreTrainedModel
    ours: PreTrainedModel
    plain_folder: str
    our_folder: str
    inputs: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=CLASSES)
def twins(request, tmp_path_factory) -> Twins:
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("plain", "ours")]
    make_model(request.param).save_pretrained(folders[0])
    models = [class_.from_pretrained(folders[0]).eval() for class_ in CLASSES[request.param]]
    models[1].save_pretrained(folders[1])
    for folder in folders:
        make_processor(request.param).save_pretrained(folder)
    return Twins(request.param, *models, *folders, make_batch(request.param))


@pytest.fixture
def warnings(caplog):
    """What transformers warns of."""
    transformers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        yield caplog.messages
    transformers_logging.disable_propagation()


def renamed(name: str) -> str:
    """The first rule that applies."""
    return next(re.sub(new, old, name) for new, old in OLD_NAMES.items() if re.search(new, name))


def assert_equal_weights(model: PreTrainedModel, expected: PreTrainedModel):
    weights = expected.state_dict()
    assert list(model.state_dict()) == list(weights)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def assert_nothing_amiss(report: dict):
    assert not any(report.values()), report


def test_the_images_reach_every_answer(twins):
    """Else the equalities below would say little."""
    other = {**twins.inputs, "pixel_values": twins.inputs["pixel_values"].flip(-1)}
    supervised = twins.inputs["labels"] != -100
    difference = twins.ours(**twins.inputs).logits - twins.ours(**other).logits
    assert (difference[supervised].abs().amax(-1) > 0.01).all()


def test_a_plain_checkpoint_gives_the_same_model_without_a_warning(twins, warnings):
    ours, report = CLASSES[twins.family][1].from_pretrained(twins.plain_folder, output_loading_info=True)
    assert_nothing_amiss(report)
    assert warnings == []
    assert_equal_weights(ours, twins.plain)
    outputs, expected = ours.eval()(**twins.inputs), twins.plain(**twins.inputs)
    assert torch.equal(outputs.logits, expected.logits)
    assert torch.equal(outputs.loss, expected.loss)


def test_the_plain_class_reads_ours_bit_for_bit(twins):
    plain, report = CLASSES[twins.family][0].from_pretrained(twins.our_folder, output_loading_info=True)
    assert_nothing_amiss(report)
    assert_equal_weights(plain, twins.plain)
    assert torch.equal(plain.eval()(**twins.inputs).logits, twins.ours(**twins.inputs).logits)


def test_ours_reads_ours_without_a_warning(twins, warnings):
    ours, report = AutoModelForImageTextToText.from_pretrained(twins.our_folder, output_loading_info=True)
    assert_nothing_amiss(report)
    assert warnings == []
    assert type(ours) is CLASSES[twins.family][1]
    assert_equal_weights(ours, twins.plain)


def test_checkpoints_have_the_names_of_plain_ones(twins, tmp_path):
    """Both when weights come from a checkpoint and when the model was made from a configuration."""
    names = load_file(f"{twins.plain_folder}/model.safetensors").keys()
    assert load_file(f"{twins.our_folder}/model.safetensors").keys() == names
    type(twins.ours)(twins.ours.config).save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == names


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForImageTextToText])
def test_checkpoints_with_the_names_of_transformers_4_load(twins, auto_class, warnings, tmp_path):
    old = {renamed(name): weight for name, weight in twins.plain.state_dict().items()}
    assert {"language_model.lm_head.weight", "language_model.model.norm.weight"} <= old.keys()
    assert "vision_tower.vision_model.pre_layrnorm.weight" in old
    twins.ours.config.save_pretrained(tmp_path)
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    ours, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    head = {"language_model.lm_head.weight"} if auto_class is AutoModel else set()
    assert report.pop("unexpected_keys") == head
    assert_nothing_amiss(report)
    assert_equal_weights(ours, twins.plain.model if auto_class is AutoModel else twins.plain)


def test_official_numbers(shared, tmp_path):
    """A checkpoint of LLaVA-1.5's own code, under the names that transformers 4 gave its weights."""
    source = shared / "data" / "formats" / "llava"
    original = json.loads((source / "config.json").read_text())
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    fields += ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps")
    placeholder = original["vocab_size"] - 1
    config = LlavaCALConfig(
        vision_config=CLIPVisionConfig(**original["vision_config"]),
        text_config=LlamaConfig(**{field: original[field] for field in fields}),
        vision_feature_layer=original["mm_vision_select_layer"],
        image_token_index=placeholder,
    )
    config.save_pretrained(tmp_path)
    names = {
        r"^model\.vision_tower\.vision_tower": "vision_tower",
        r"^model\.mm_projector\.0": "multi_modal_projector.linear_1",
        r"^model\.mm_projector\.2": "multi_modal_projector.linear_2",
        r"^model": "language_model.model",
        r"^lm_head": "language_model.lm_head",
    }
    weights = {
        next(re.sub(theirs, old, name) for theirs, old in names.items() if re.search(theirs, name)): weight
        for name, weight in load_file(source / "model.safetensors").items()
    }
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    model, report = LlavaCALForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert_nothing_amiss(report)

    reference = load_file(source / "reference.safetensors")
    assert placeholder not in reference["batch_prompt"]
    ids = torch.stack(
        [
            torch.cat([torch.full((16,), placeholder) if token == -200 else token[None] for token in row])
            for row in reference["batch_prompt"]
        ]
    )
    logits = model.eval()(ids, reference["batch_images"], torch.ones_like(ids)).logits
    torch.testing.assert_close(logits, reference["batch_logits_official"], rtol=1e-4, atol=2e-5)


def test_nothing_but_names_is_ours(twins):
    ours = type(twins.ours)
    assert ours.generate is GenerationMixin.generate
    assert ours.forward is CLASSES[twins.family][0].forward
    assert twins.ours.loss_type == twins.plain.loss_type
    assert get_keys_to_not_convert(twins.ours) == get_keys_to_not_convert(twins.plain) != []
    prompt = {name: value for name, value in make_batch(twins.family, images=(1,)).items() if name != "labels"}
    generated = twins.ours.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert torch.equal(generated, twins.plain.generate(**prompt, max_new_tokens=8, do_sample=False))


@pytest.mark.parametrize("auto_class", AUTO_CLASSES)
def test_auto_classes_take_either_for_what_it_is(twins, auto_class):
    plain, ours = (auto_class.from_pretrained(folder) for folder in (twins.plain_folder, twins.our_folder))
    assert type(plain).__module__.startswith("transformers.")
    assert type(ours).__module__.startswith("compalign.")
    assert isinstance(ours, type(plain))
    assert_equal_weights(ours, plain)


def test_no_auto_class_knows_the_plain_model_only(twins):
    known = {
        auto_class
        for name, auto_class in vars(modeling_auto).items()
        if name.startswith("AutoModel") and type(twins.plain.config) in auto_class._model_mapping
    }
    assert known == set(AUTO_CLASSES)


def test_the_body_alone_is_saved_and_read(twins, tmp_path):
    AutoModel.from_pretrained(twins.our_folder).save_pretrained(tmp_path)
    ours, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert_nothing_amiss(report)
    assert_equal_weights(ours, twins.plain.model)


@pytest.mark.parametrize("named", [True, False])
def test_the_processor_is_that_of_the_plain_model(twins, named, tmp_path):
    """Also where no file of the processor names its class, and the configuration has to tell."""
    processors = []
    for index, folder in enumerate((twins.plain_folder, twins.our_folder)):
        shutil.copytree(folder, tmp_path / str(index))
        for file in ("processor_config.json", "tokenizer_config.json"):
            fields = json.loads((tmp_path / str(index) / file).read_text())
            if not named:
                del fields["processor_class"]
            (tmp_path / str(index) / file).write_text(json.dumps(fields))
        processors.append(AutoProcessor.from_pretrained(tmp_path / str(index)))
    expected, processor = processors
    assert type(processor) is type(expected) is type(make_processor(twins.family))
    assert processor.to_dict() == expected.to_dict()
    image = Image.new("RGB", (70, 50), "red")
    content = [{"type": "image", "image": image}, {"type": "text", "text": "is it?"}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs, wanted = (
        each.apply_chat_template([{"role": "user", "content": content}], **options) for each in (processor, expected)
    )
    assert inputs.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(inputs[name], value), name
    assert torch.isfinite(twins.ours(**inputs).logits).all()


def test_text_is_split_as_beside_the_plain_model(twins, tmp_path):
    """Published tokenizers put a space after each special token; `LlamaTokenizer`, which they name, does not."""
    tokens = []
    for index, folder in enumerate((twins.plain_folder, twins.our_folder)):
        shutil.copytree(folder, tmp_path / str(index))
        file = tmp_path / str(index) / "tokenizer.json"
        space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        steps = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
        file.write_text(json.dumps({**json.loads(file.read_text()), "normalizer": steps, "pre_tokenizer": None}))
        processor = AutoProcessor.from_pretrained(tmp_path / str(index))
        tokens.append(processor.tokenizer.tokenize("ASSISTANT: red</s>USER: is it blue?"))
    assert "▁USER:" in tokens[0][1:]
    assert tokens[1] == tokens[0]


def test_the_pipeline_answers_as_for_the_plain_model(twins, warnings):
    image = Image.new("RGB", (40, 40), "blue")
    answers = [
        pipeline("image-text-to-text", folder)(image, text="USER: <image>\nwhat is it? ASSISTANT:", max_new_tokens=6)
        for folder in (twins.plain_folder, twins.our_folder)
    ]
    assert answers[0] == answers[1]
    assert not [message for message in warnings if "not supported" in message]


def test_adapters_fit_either_model(twins, tmp_path):
    layers = r".*language_model\.layers\.\d+\.self_attn\.(q|v)_proj"
    model = AutoModelForImageTextToText.from_pretrained(twins.our_folder)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=layers, init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(twins.plain_folder)
    assert not torch.equal(adapted(**twins.inputs).logits, twins.plain(**twins.inputs).logits)
    logits = PeftModel.from_pretrained(plain, tmp_path).eval()(**twins.inputs).logits
    assert torch.equal(logits, adapted(**twins.inputs).logits)


def test_token_weighting_survives_saving(twins, tmp_path):
    fields = {"cal_clamp": (0.5, 2), "cal_window": 5, "cal_pooling": "row"}
    type(twins.ours.config).from_pretrained(twins.plain_folder, **fields).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert {name: getattr(config, name) for name in fields} == fields
    assert twins.ours.config.cal_clamp == (1.0, 5.0)
    assert twins.ours.config.cal_window == 3
    assert twins.ours.config.cal_pooling == "supervised"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cal_clamp", (0.0, 1.0)),
        ("cal_clamp", (2.0, 1.0)),
        ("cal_clamp", (1.0,)),
        ("cal_clamp", (1.0, float("nan"))),
        ("cal_window", 0),
        ("cal_window", 2),
        ("cal_window", -1),
        ("cal_window", 3.0),
        ("cal_pooling", "flat"),
    ],
)
def test_token_weighting_out_of_range_is_refused(twins, field, value):
    """At once, when it overrides what was saved, and when it is set later."""
    config_class = type(twins.ours.config)
    for refused in (
        lambda: config_class(**{field: value}),
        lambda: config_class.from_pretrained(twins.our_folder, **{field: value}),
        lambda: setattr(config_class(), field, value),
    ):
        with pytest.raises(StrictDataclassFieldValidationError, match=re.escape(f"'{field}'")) as error:
            refused()
        assert str(value) in str(error.value)


@pytest.mark.parametrize("clamp", [(1.0, 1.0), (1, 5), [0.25, 8.0]])
def test_any_ordered_positive_bounds_do(clamp):
    assert LlavaCALConfig(cal_clamp=clamp).cal_clamp == tuple(clamp)


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models_of_every_family_have_a_finite_loss(family):
    batch = make_batch(family, dtype=torch.float64)
    assert torch.isfinite(make_model(family, torch.float64)(**batch).loss)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
