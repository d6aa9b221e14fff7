"""Every CE-CLIP fixture: three calls that carry the thresholds over, in the paper's and the published forms."""

import golden
import pytest
import torch

from compalign.trainers.losses import clip_contrastive, cross_modal_rank, intra_modal_contrast, sigmoid_contrast

MASKED_INTRA_MODAL = {  # call 0, from an independent NumPy implementation; no published code masks this term
    "ceclip/b1_k4_d8_all_mean": 5.258414386969509,
    "ceclip/b5_k4_d16_all_mean_allvalid": 1.881552358336264,
    "ceclip/b4_k4_d16_cmr_fixed": 1.979163376098716,
    "ceclip/b4_k4_d16_imc": 1.549876263217038,
    "ceclip/b5_k3_d12_all_mean": 1.789824731836984,
    "ceclip/b6_k4_d14_all_max_clamp10": 7.299562271961006,
    "ceclip/b6_k4_d14_all_mean_clamp10": 3.572959217821337,
}


def load_call(name, prefix, precision):
    """One call's leaves, their four pieces as the losses take them, and everything stored."""
    tensors = golden.load(name, precision, prefix)
    tensors["logit_scale"] = golden.load(name, precision)["logit_scale"]
    leaves = {key: tensors[key].requires_grad_() for key in ("image_features", "text_features", "logit_scale")}
    caption, negative = golden.split(leaves["text_features"], golden.CASES[name]["shapes"]["B"])
    return leaves, (leaves["image_features"], caption, negative, leaves["logit_scale"]), tensors


def threshold_before(name, tensors, suffix):
    """The stored threshold that enters a call, one a kind."""
    initial = torch.tensor(golden.CASES[name]["flags"]["initial_threshold"], dtype=torch.float64)
    threshold = tensors.get(f"thresholds_in{suffix}", initial)
    return threshold[0] if threshold.dim() == 2 else threshold


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", golden.names("ceclip_loss"))
def test_published_total_and_gradients(name, precision):
    flags = golden.CASES[name]["flags"]
    for call in golden.calls(name):
        leaves, (image, caption, negative, scale), tensors = load_call(name, call, precision)
        mask = tensors["valid_caption_mask"]
        total = clip_contrastive(image, caption, scale, negative if flags["hardnegative"] else None)
        if flags["cmr_loss"]:
            threshold = threshold_before(name, tensors, "_official")
            if threshold.isnan().any():
                continue  # the published code's own dead end: every later value is NaN
            rank, following = cross_modal_rank(
                image, caption, negative, scale, threshold, mask, flags["threshold_type"], released=True
            )
            golden.assert_matches(name, precision, rank, tensors["cmr_loss_official"])
            golden.assert_gradients_match(name, precision, rank, leaves, tensors, ".of_cmr_loss_official")
            stored = tensors["thresholds_new_official"]
            stored = stored[0] if stored.dim() == 2 else stored.expand(negative.shape[1])
            tolerance = golden.CASES[name]["tolerance"][precision]
            torch.testing.assert_close(
                following.double(),
                stored.double(),
                rtol=tolerance["rtol"],
                atol=tolerance["atol"],
                equal_nan=True,
            )
            total = total + flags["cmr_loss_weight"] * rank
        if flags["imc_loss"]:
            intra = intra_modal_contrast(image, caption, negative, scale, mask, negatives="head")
            golden.assert_matches(name, precision, intra, tensors["imc_loss_official"])
            golden.assert_gradients_match(name, precision, intra, leaves, tensors, ".of_imc_loss_official")
            total = total + flags["imc_loss_weight"] * intra
        golden.assert_matches(name, precision, total, tensors["total_loss_official"])
        golden.assert_gradients_match(name, precision, total, leaves, tensors, "_official")


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", [n for n in golden.names("ceclip_loss") if golden.CASES[n]["flags"]["cmr_loss"]])
def test_paper_rank_and_threshold(name, precision):
    """The default follows the mask; where the reference divides by zero it keeps the last threshold."""
    flags = golden.CASES[name]["flags"]
    for call in golden.calls(name):
        leaves, (image, caption, negative, scale), tensors = load_call(name, call, precision)
        mask = tensors["valid_caption_mask"]
        threshold = threshold_before(name, tensors, "_paper").nan_to_num(0.0)
        rank, following = cross_modal_rank(image, caption, negative, scale, threshold, mask, flags["threshold_type"])
        stored = tensors.get("thresholds_new_paper", threshold.expand(negative.shape[1]))
        dead = ~mask.bool().any(0)
        assert torch.equal(following[dead].double(), threshold.expand(len(following))[dead].double())
        golden.assert_matches(name, precision, following[~dead], stored[~dead])
        golden.assert_matches(name, precision, rank, tensors["cmr_loss_paper"])
        golden.assert_gradients_match(name, precision, rank, leaves, tensors, ".of_cmr_loss_paper")


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", [n for n in golden.names("ceclip_loss") if golden.CASES[n]["flags"]["imc_loss"]])
def test_intra_modal_forms(name, precision):
    for call in golden.calls(name):
        _, (image, caption, negative, scale), tensors = load_call(name, call, precision)
        mask = tensors["valid_caption_mask"]
        forms = {
            "imc_loss_batch_posden_paper": intra_modal_contrast(image, caption, negative, scale),
            "imc_loss_official_at_2d07821": intra_modal_contrast(image, caption, negative, scale),
            "imc_loss_own_posden_paper": intra_modal_contrast(image, caption, negative, scale, mask, "own"),
            "imc_loss_official": intra_modal_contrast(image, caption, negative, scale, mask, "head"),
        }
        for key, value in forms.items():
            golden.assert_matches(name, precision, value, tensors[key])


@pytest.mark.parametrize("name", MASKED_INTRA_MODAL)
def test_masked_intra_modal_default(name):
    _, (image, caption, negative, scale), tensors = load_call(name, "call0.", "float64")
    value = intra_modal_contrast(image, caption, negative, scale, tensors["valid_caption_mask"])
    assert value.item() == pytest.approx(MASKED_INTRA_MODAL[name], rel=1e-9)


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", golden.names("clip_loss"))
def test_plain_contrast(name, precision):
    tensors = golden.load(name, precision)
    leaves = {key: tensors[key].requires_grad_() for key in ("image_features", "text_features", "logit_scale")}
    value = clip_contrastive(leaves["image_features"], leaves["text_features"], leaves["logit_scale"])
    golden.assert_matches(name, precision, value, tensors["clip.loss_official"])
    stored = {key.removeprefix("clip."): tensor for key, tensor in tensors.items()}
    golden.assert_gradients_match(name, precision, value, leaves, stored, "_official")


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize("name", golden.names("clip_loss"))
def test_sigmoid_contrast(name, precision):
    """The published code divides by all B * B pairs, ours by the B texts."""
    tensors = golden.load(name, precision)
    leaves = {
        key: tensors[key].requires_grad_() for key in ("image_features", "text_features", "logit_scale", "logit_bias")
    }
    batch = golden.CASES[name]["shapes"]["B"]
    image, text, scale, bias = leaves.values()
    value = sigmoid_contrast(image, text, torch.eye(batch, dtype=torch.bool), scale, bias) / batch
    golden.assert_matches(name, precision, value, tensors["siglip.loss_official"])
    stored = {key.removeprefix("siglip."): tensor for key, tensor in tensors.items()}
    golden.assert_gradients_match(name, precision, value, leaves, stored, "_official")
