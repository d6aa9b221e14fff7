"""Every DeGLA fixture: the paper's terms as the default, the published ones through their option."""

import golden
import pytest
import torch

from compalign.trainers.degla import ema_update
from compalign.trainers.losses import clip_contrastive, text_grounded_contrast


@pytest.mark.parametrize("precision", golden.PRECISIONS)
@pytest.mark.parametrize(("negatives", "suffix"), [("own", "_paper"), ("released", "_official")])
@pytest.mark.parametrize("name", golden.names("degla_loss"))
def test_terms_and_their_gradients_equal_the_fixture(name, negatives, suffix, precision):
    case, tensors = golden.CASES[name], golden.load(name, precision)
    leaves = {key: tensors[key].requires_grad_() for key in ("image_features", "text_features", "logit_scale")}
    terms = golden.degla_terms(case["flags"], tensors, leaves, negatives)
    for term, (_, value) in terms.items():
        if f"{term}{suffix}" in tensors:
            golden.assert_matches(name, precision, value, tensors[f"{term}{suffix}"])
        if f"grad_image_features.of_{term}{suffix}" in tensors:
            golden.assert_gradients_match(name, precision, value, leaves, tensors, f".of_{term}{suffix}")
    total = sum(weight * value for weight, value in terms.values())
    golden.assert_matches(name, precision, total, tensors[f"total_loss{suffix}"])
    golden.assert_gradients_match(name, precision, total, leaves, tensors, suffix)


@pytest.mark.parametrize("name", ["degla/b4_k4_d16_tgc", "degla/b2_k4_d6_all_near", "degla/b8_k4_d32_all_near"])
def test_released_text_negatives_are_not_the_papers(name):
    tensors = golden.load(name)
    caption, negative = golden.split(tensors["text_features"], golden.CASES[name]["shapes"]["B"])
    teacher, _ = golden.split(tensors["teacher_text_features"], golden.CASES[name]["shapes"]["B"])
    own = text_grounded_contrast(caption, teacher, negative)
    released = text_grounded_contrast(caption, teacher, negative, negatives="released")
    assert not torch.isclose(own, released)


@pytest.mark.parametrize("name", ["degla/b4_k4_d16_base"])
def test_contrast_without_negatives_equals_the_reference(name):
    tensors = golden.load(name)
    caption, _ = golden.split(tensors["text_features"], 4)
    value = clip_contrastive(tensors["image_features"], caption, tensors["logit_scale"])
    golden.assert_matches(name, "float64", value, tensors["base_loss_without_negatives_paper"])


@pytest.mark.parametrize("name", golden.names("degla_ema"))
def test_teacher_follows_the_published_average(name):
    """Parameters move, buffers (batch norm's statistics) stay."""
    case = golden.CASES[name]
    tensors = golden.load(name, "float32")
    teacher = {
        key.removeprefix("teacher_before."): tensors[key] for key in tensors if key.startswith("teacher_before.")
    }
    buffers = {key for key in teacher if "running" in key or "num_batches" in key}
    moving = [key for key in teacher if key not in buffers]
    for step in range(case["flags"]["steps"]):
        ema_update(
            [teacher[key] for key in moving],
            [tensors[f"student_step{step}.{key}"] for key in moving],
            decay=case["flags"]["alpha"],
        )
        for key, value in teacher.items():
            golden.assert_matches(name, "float32", value, tensors[f"teacher_after_step{step}_official.{key}"])
