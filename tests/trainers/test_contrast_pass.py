"""The contrast pass without image tokens equals the masked full pass, for every family for which we say so."""

import pytest
import tiny_multimodal
import torch

from compalign.trainers.cal_contrast import states_without_image, watched, why_inexact

EXACT = ("llava", "llava_next", "qwen2_vl", "paligemma", "smolvlm", "gemma3")


def run(family, mode, change=None, training=True):
    """States without the image at the tokens that predict a label, of a batch after its main pass."""
    model = tiny_multimodal.make_model(family).double().train(training)
    batch = dict(tiny_multimodal.make_batch(family))
    labels = batch.pop("labels")
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    with watched(model) as call:
        model(**batch, logits_to_keep=1, use_cache=False)
    ids = batch["input_ids"]
    asked = torch.nn.functional.pad(labels[:, 1:] != -100, (0, 1))
    asked &= ids != model.config.image_token_id  # an image token's own state holds the image
    if change is not None:
        change(call)
    return states_without_image(model, batch, call, asked, mode), call, asked


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("family", EXACT)
def test_dropping_equals_masking(family, training):
    (compared, dropped), call, asked = run(family, "dropped", training=training)
    (_, masked), _, _ = run(family, "masked", training=training)
    assert torch.equal(compared, asked)
    assert len(dropped) == asked.sum() > 0
    torch.testing.assert_close(dropped, masked, rtol=0, atol=1e-10)
    assert (dropped - call.hidden[asked]).abs().max() > 1e-3, "the image makes no difference"


@pytest.mark.parametrize("family", EXACT)
def test_exactness_is_seen_in_the_configuration(family):
    assert why_inexact(tiny_multimodal.make_model(family), 1000) is None


def test_a_window_is_exact_only_for_rows_that_fit_into_it():
    model = tiny_multimodal.make_model("mistral_window")
    assert why_inexact(model, 8) is None
    assert "reaches 8 tokens back and rows have 9" in why_inexact(model, 9)


def test_a_window_makes_dropping_inexact():
    """The reason for the masked pass: what we refuse to do would be wrong."""
    (_, dropped), _, _ = run("mistral_window", "dropped")
    (_, masked), _, _ = run("mistral_window", "masked")
    assert not torch.allclose(dropped, masked, atol=1e-3)


def test_cross_attention_is_refused():
    with pytest.raises(ValueError, match="cross-attention"):
        why_inexact(tiny_multimodal.make_model("mllama"), 10)


def test_positions_counted_anew_would_be_wrong():
    def renumber(call):
        call.positions = torch.zeros_like(call.embeddings[..., 0]).long()

    (_, dropped), _, _ = run("llava", "dropped", renumber)
    (_, masked), _, _ = run("llava", "masked")
    assert not torch.allclose(dropped, masked, atol=1e-4)


def test_jumping_positions_without_a_mask_would_be_wrong():
    """Pins what the pass relies on: transformers takes a jump for the border of another text unless it gets a mask."""
    model = tiny_multimodal.make_model("llava").double()
    ids, positions = torch.arange(5, 13)[None], torch.tensor([[0, 1, 10, 11, 12, 13, 14, 15]])
    states = []
    for mask in (None, torch.ones_like(ids)):
        with watched(model) as call:
            model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)
        states.append(call.hidden)
    assert not torch.allclose(*states, atol=1e-3)


def test_the_pass_leaves_no_trace():
    """Neither the random state nor any module's mode changes, and dropout is off."""
    model = tiny_multimodal.make_model("llava").double().train()
    for layer in model.get_decoder().layers:
        layer.self_attn.attention_dropout = 0.5
    model.get_encoder("image").eval()
    batch = dict(tiny_multimodal.make_batch("llava"))
    labels = batch.pop("labels")
    batch["pixel_values"] = batch["pixel_values"].double()
    with watched(model) as call:
        model(**batch, logits_to_keep=1, use_cache=False)
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    asked = torch.nn.functional.pad(labels[:, 1:] != -100, (0, 1))
    one, two = (states_without_image(model, batch, call, asked, "dropped")[1] for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]


def test_the_state_of_an_image_token_is_that_of_the_text_before_it():
    """An answer right after the image is predicted by the image's last token, or, without it, by the text before."""
    model = tiny_multimodal.make_model("llava").double()
    batch = dict(tiny_multimodal.make_batch("llava"))
    del batch["labels"]
    batch["pixel_values"] = batch["pixel_values"].double()
    with watched(model) as call:
        model(**batch, logits_to_keep=1, use_cache=False)
    image = batch["input_ids"] == model.config.image_token_id
    first = image.int().argmax(1)
    assert (first > 0).all()
    last = torch.zeros_like(image)
    before = torch.zeros_like(image)
    for row, start in enumerate(first.tolist()):
        before[row, start - 1] = True
        last[row, start + 1] = True
    assert image[last].all()
    (_, one), (_, two) = (states_without_image(model, batch, call, asked, "dropped") for asked in (last, before))
    assert torch.equal(one, two)
