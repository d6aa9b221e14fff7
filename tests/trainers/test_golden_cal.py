"""Every CAL fixture: the published forms through their options, the default, and the published forward as a whole."""

import golden
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from compalign.trainers.cal_contrast import states_without_image, watched
from compalign.trainers.cal_head import chunked_cross_entropy_sum, label_gain
from compalign.trainers.losses import visual_token_weights, weighted_next_token_loss

IMAGE_TOKEN = 1
DEFAULT_LOSSES = {  # supervised positions only, from an independent NumPy implementation
    "cal/b1_l12_v17": 4.843623146411111,
    "cal/b2_l2_v5": 0.06920960792238019,
    "cal/b2_l6_v8_everything_ignored": 0.0,
    "cal/b2_l8_v9_equal_logits": 4.89728108810157,
    "cal/b2_l9_v11": 2.912071744623565,
    "cal/b3_l10_v15_row_all_ignored": 4.296355198777892,
    "cal/b3_l16_v32_mixed": 4.965056294694834,
    "cal/b4_l7_v13_allclampedhigh": 4.431152937172684,
}


def label_deltas(tensors: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Difference of the label's logits, of token 0 where nothing is supervised, and what is supervised."""
    target = tensors["labels"][:, 1:]
    difference = (tensors["logits"] - tensors["logits_wo_img"])[:, :-1]
    return difference.gather(2, target.clamp_min(0)[..., None]).squeeze(2), target != -100


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize(("pooling", "suffix"), [("released", "_official"), ("row", "_rowwise")])
@pytest.mark.parametrize("name", golden.names("cal_weighting"))
def test_weights_loss_and_gradient_equal_the_fixture(name, pooling, suffix, precision):
    tensors = golden.load(name, precision)
    delta, supervised = label_deltas(tensors)
    golden.assert_matches(name, precision, delta, tensors["delta_raw"])
    golden.assert_matches(name, precision, delta.clamp(1, 5), tensors["delta_clamped"])
    weights = visual_token_weights(delta, supervised, pooling=pooling)
    golden.assert_matches(name, precision, weights, tensors[f"weights{suffix}"])
    logits = tensors["logits"].requires_grad_()
    loss = weighted_next_token_loss(logits, tensors["labels"], weights)
    golden.assert_matches(name, precision, loss, tensors[f"loss{suffix}"])
    (gradient,) = torch.autograd.grad(loss, logits)
    golden.assert_matches(name, precision, gradient, tensors[f"grad_logits{suffix}"], gradient=True)


@pytest.mark.parametrize("name", golden.names("cal_weighting"))
def test_default_sees_supervised_positions_only(name):
    tensors = golden.load(name)
    delta, supervised = label_deltas(tensors)
    weights = visual_token_weights(delta, supervised)
    loss = weighted_next_token_loss(tensors["logits"], tensors["labels"], weights)
    # The reference divides by the sum of weights without the published 1e-6.
    assert loss.item() == pytest.approx(DEFAULT_LOSSES[name], rel=1e-6, abs=1e-9)


def make_language_model(name: str) -> LlavaForConditionalGeneration:
    """The fixture's Llama inside a Llava whose image side is never called."""
    flags = golden.CASES[name]["flags"]
    text = LlamaConfig(**flags["config"], rms_norm_eps=flags["rms_norm_eps"])
    tower = CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config = LlavaConfig(text_config=text, vision_config=tower, image_token_id=IMAGE_TOKEN, attn_implementation="eager")
    model = LlavaForConditionalGeneration(config).train()
    state = {key.removeprefix("state_dict."): value for key, value in golden.load(name, "float32").items()}
    language = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
    model.model.language_model.load_state_dict(language)
    model.lm_head.load_state_dict({"weight": state["lm_head.weight"]})
    return model


def expanded(name: str, tensors: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, mask and labels of the whole rows, and token ids that only say where images are."""
    if "inputs_embeds" in tensors:
        embeddings, mask, labels = (tensors[key] for key in ("inputs_embeds", "attention_mask", "labels"))
        image = labels == -300
    else:
        keys = ("expanded_inputs_embeds_official", "expanded_attention_mask_official", "expanded_labels_official")
        embeddings, mask, labels = (tensors[key] for key in keys)
        image = torch.zeros_like(mask)
        features = tensors["image_features"].shape[1]
        for row, start in enumerate((tensors["input_ids"] == -200).int().argmax(1).tolist()):
            image[row, start : start + features] = True
    ids = torch.zeros_like(labels).masked_fill(image, IMAGE_TOKEN)
    return embeddings, mask.long(), labels.masked_fill(labels < 0, -100), ids


@pytest.mark.parametrize("name", golden.names("cal_e2e"))
def test_masked_pass_weights_loss_and_gradients_equal_the_published_forward(name):
    model, tensors = make_language_model(name), golden.load(name, "float32")
    embeddings, mask, labels, ids = expanded(name, tensors)
    embeddings = embeddings.requires_grad_()
    with watched(model) as call:
        model(inputs_embeds=embeddings, attention_mask=mask, logits_to_keep=1, use_cache=False)
    batch = {"input_ids": ids, "attention_mask": mask}
    asked = torch.ones_like(mask).bool()
    asked[:, -1] = False
    _, unseen = states_without_image(model, batch, call, asked, "masked")
    target = labels[:, 1:]
    delta = label_gain(model.lm_head, call.hidden[asked], unseen, target.clamp_min(0).flatten()).view(target.shape)
    present = mask[:, 1:].bool()
    golden.assert_matches(name, "float32", delta.clamp(1, 5)[present], tensors["delta_clamped_official"][present])
    weights = visual_token_weights(delta, target != -100, pooling="released")
    supervised = target != -100
    golden.assert_matches(name, "float32", weights[supervised], tensors["weights_official"][supervised])
    total = chunked_cross_entropy_sum(
        model.lm_head, call.hidden[:, :-1][supervised], target[supervised], weights[supervised]
    )
    loss = total / (weights[supervised].sum() + 1e-6)
    golden.assert_matches(name, "float32", loss, tensors["loss_official"])
    loss.backward()
    if "grad_inputs_embeds_official" in tensors:
        golden.assert_matches(name, "float32", embeddings.grad, tensors["grad_inputs_embeds_official"], gradient=True)
    for key, value in model.model.language_model.named_parameters():
        if key != "embed_tokens.weight":  # the embeddings were given
            golden.assert_matches(name, "float32", value.grad, tensors[f"grad.model.{key}_official"], gradient=True)
    golden.assert_matches(
        name, "float32", model.lm_head.weight.grad, tensors["grad.lm_head.weight_official"], gradient=True
    )
