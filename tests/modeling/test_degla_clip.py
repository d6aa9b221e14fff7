"""DeGLA's dual encoder equals plain, padded CLIP in weights, values and gradients, at fewer tokens."""

import logging
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoProcessor, CLIPConfig, CLIPModel, CLIPProcessor, pipeline
from transformers.utils import logging as transformers_logging

from compalign.modeling import DeGLACLIPConfig, DeGLACLIPModel
from compalign.modeling.clip.grouped_text import CALL_OVERHEAD_CPU, number_of_groups


def twins(sizes: dict, **options) -> tuple[CLIPModel, DeGLACLIPModel]:
    """A plain CLIP and ours with equal weights."""
    torch.manual_seed(0)
    plain = CLIPModel._from_config(CLIPConfig(**sizes), **options)
    ours = DeGLACLIPModel._from_config(DeGLACLIPConfig(**sizes), **options)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def gradients(model: CLIPModel, inputs: dict) -> dict[str, torch.Tensor]:
    """Gradients of a sum that weighs every scaled cosine differently."""
    logits = model(**inputs).logits_per_image
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    (logits * weights).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_answer(ours: DeGLACLIPModel, plain: CLIPModel, inputs: dict, tolerance: float):
    answer, reference = ours(**inputs), plain(**inputs)
    for field in ("image_embeds", "text_embeds"):
        torch.testing.assert_close(answer[field], reference[field], rtol=0, atol=tolerance)
    for field in ("logits_per_image", "logits_per_text"):
        torch.testing.assert_close(answer[field], reference[field], rtol=0, atol=tolerance * answer.logit_scale.item())
    torch.testing.assert_close(answer.logit_scale, plain.logit_scale.exp(), rtol=0, atol=0)


@pytest.mark.parametrize("eos_token_id", [2, 639])
@pytest.mark.parametrize("num_negatives", [0, 1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_trimmed_groups_equal_padded_clip_in_values_and_gradients(
    clip_sizes, caption_batch, eos_token_id, num_negatives, dtype, tolerance
):
    """Gradients add up to 30 captions of 77 tokens in another order: ten times the rounding of a value."""
    plain, ours = twins(clip_sizes(eos_token_id), dtype=dtype)
    inputs = caption_batch(6, num_negatives, pad=1)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    assert_same_answer(ours, plain, inputs, tolerance)
    expected = gradients(plain, inputs)
    for name, gradient in gradients(ours, inputs).items():
        scale = max(expected[name].abs().max().item(), 1)
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=10 * tolerance * scale, msg=name)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_mask_is_superfluous_where_padding_follows_the_caption(clip_sizes, caption_batch, attention):
    plain, ours = twins(clip_sizes(), dtype=torch.float64, attn_implementation=attention)
    inputs = caption_batch(4, 2)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    without_mask = {name: value for name, value in inputs.items() if name != "attention_mask"}
    assert torch.equal(ours(**without_mask).text_embeds, ours(**inputs).text_embeds)
    assert_same_answer(ours, plain, without_mask, 1e-10)


def test_a_caption_without_end_token_is_read_where_clip_reads_it(clip_sizes, caption_batch):
    plain, ours = twins(clip_sizes())
    inputs = caption_batch(3, 1)
    inputs["input_ids"][2] = 5
    assert_same_answer(ours, plain, inputs, 1e-6)


def left_padded(inputs: dict) -> dict:
    lengths = inputs["attention_mask"].sum(-1).tolist()
    rows = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    turned = {name: [row.roll(-n) for row, n in zip(value, lengths, strict=True)] for name, value in rows.items()}
    return {**inputs, **{name: torch.stack(value) for name, value in turned.items()}}


def with_a_hidden_word(inputs: dict) -> dict:
    mask = inputs["attention_mask"].clone()
    mask[1, 1] = 0
    return {**inputs, "attention_mask": mask}


def with_reversed_positions(inputs: dict) -> dict:
    return {**inputs, "position_ids": torch.arange(77).flip(0)[None]}


@pytest.mark.parametrize("change", [left_padded, with_a_hidden_word, with_reversed_positions])
def test_where_a_cut_is_not_exact_the_padded_forward_of_clip_is_taken(clip_sizes, caption_batch, change):
    plain, ours = twins(clip_sizes())
    ordinary = caption_batch(4, 1)
    inputs = change(ordinary)
    answer = ours(**inputs)
    torch.testing.assert_close(answer.text_embeds, plain(**inputs).text_embeds, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(answer.text_embeds, ours(**ordinary).text_embeds, atol=1e-3)
    assert text_shapes(ours, inputs) == [(8, 77)]


def text_shapes(model: CLIPModel, inputs: dict) -> list[tuple[int, int]]:
    """The shapes of token ids that the text tower was given during one forward."""
    shapes = []
    hook = model.text_model.embeddings.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    model(**inputs)
    hook.remove()
    return shapes


def test_one_forward_runs_the_image_tower_once_and_the_text_tower_once_per_group(clip_sizes, caption_batch):
    _, ours = twins(clip_sizes())
    inputs = caption_batch(6, 4)
    calls = Counter()
    for name in ("text_model", "vision_model"):
        getattr(ours, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    shapes = text_shapes(ours, inputs)
    assert calls == {"vision_model": 1, "text_model": number_of_groups(30, CALL_OVERHEAD_CPU)}
    assert sum(captions for captions, _ in shapes) == 30
    assert max(tokens for _, tokens in shapes) == inputs["attention_mask"].sum(-1).max()
    assert sum(captions * tokens for captions, tokens in shapes) < 1.25 * inputs["attention_mask"].sum()


@pytest.mark.parametrize("missing", ["input_ids", "pixel_values"])
def test_a_missing_side_is_named(clip_sizes, caption_batch, missing):
    _, ours = twins(clip_sizes())
    inputs = caption_batch(2, 0)
    del inputs[missing]
    with pytest.raises(ValueError, match=f"{missing}=None.*get_text_features or get_image_features"):
        ours(**inputs)


def test_captions_with_an_axis_of_negatives_are_refused(clip_sizes, caption_batch):
    """CLIP would flatten them, in an order that is not captions first."""
    _, ours = twins(clip_sizes())
    inputs = caption_batch(2, 1)
    inputs["input_ids"] = inputs["input_ids"].view(2, 2, 77)
    with pytest.raises(ValueError, match=r"\(captions, tokens\), got \(2, 2, 77\)"):
        ours(**inputs)


def test_return_dict_false_gives_the_fields_as_a_tuple(clip_sizes, caption_batch):
    _, ours = twins(clip_sizes())
    inputs = caption_batch(2, 1)
    assert all(map(torch.equal, ours(**inputs, return_dict=False), ours(**inputs).to_tuple()))


def test_gradient_checkpointing_changes_no_gradient(clip_sizes, caption_batch):
    _, ours = twins(clip_sizes())
    inputs = caption_batch(4, 1)
    expected = {name: gradient.clone() for name, gradient in gradients(ours.train(), inputs).items()}
    ours.zero_grad()
    ours.gradient_checkpointing_enable()
    runs = Counter()
    ours.text_model.encoder.layers[0].layer_norm1.register_forward_hook(lambda *_: runs.update(["layer"]))
    for name, gradient in gradients(ours, inputs).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    assert runs["layer"] == 2 * number_of_groups(8, CALL_OVERHEAD_CPU)


def test_bfloat16_stays_close_to_float32(clip_sizes, caption_batch):
    """bf16 keeps 8 bits: 1/256 of a unit vector's components, a few times over."""
    _, ours = twins(clip_sizes())
    inputs = caption_batch(4, 1)
    expected = ours(**inputs).text_embeds
    answer = ours.to(torch.bfloat16)(**inputs).text_embeds
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float(), expected, rtol=0, atol=0.03)


def test_weights_go_from_clip_and_back_unchanged(clip_folder, tmp_path):
    plain = CLIPModel.from_pretrained(clip_folder)
    ours, from_clip = DeGLACLIPModel.from_pretrained(clip_folder, output_loading_info=True)
    ours.save_pretrained(tmp_path)
    again, to_clip = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    for report in (from_clip, to_clip):
        assert not any(report.values())
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name]), name
        assert torch.equal(weight, again.state_dict()[name]), name
    assert load_file(tmp_path / "model.safetensors").keys() == plain.state_dict().keys()


def test_names_with_a_doubled_prefix_are_read(clip_folder, tmp_path):
    """Sharded training can save `text_model.text_model.*` where a whole model saves `text_model.*`."""
    ours = DeGLACLIPModel.from_pretrained(clip_folder)
    ours.save_pretrained(tmp_path)
    doubled = {
        f"{tower}.{name}" if (tower := name.split(".")[0]) in ("text_model", "vision_model") else name: weight
        for name, weight in ours.state_dict().items()
    }
    save_file(doubled, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again, report = DeGLACLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_starting_from_clip_warns_of_nothing(clip_folder, caplog):
    transformers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        DeGLACLIPModel.from_pretrained(clip_folder)
    transformers_logging.disable_propagation()
    assert caplog.messages == []


def test_a_configuration_survives_saving(clip_sizes, tmp_path):
    config = DeGLACLIPConfig(**clip_sizes(2))
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is DeGLACLIPConfig
    assert again.text_config.to_dict() == config.text_config.to_dict()
    assert again.vision_config.to_dict() == config.vision_config.to_dict()


def test_the_zero_shot_pipeline_scores_labels_as_clip_does(clip_folder, tmp_path):
    ours = DeGLACLIPModel.from_pretrained(clip_folder)
    ours.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(clip_folder).save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is DeGLACLIPModel
    assert type(AutoProcessor.from_pretrained(tmp_path)) is CLIPProcessor
    image, labels = Image.new("RGB", (40, 32), "red"), ["a red cube", "a blue ball left of a dog", "dog"]
    scores = [
        {
            entry["label"]: entry["score"]
            for entry in pipeline("zero-shot-image-classification", model=str(folder))(image, candidate_labels=labels)
        }
        for folder in (clip_folder, tmp_path)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert set(scores[0]) == set(labels)
