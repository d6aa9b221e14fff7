"""Closed forms and invariances of the losses: no model, no process group."""

import math

import pytest
import torch

from compalign.trainers.losses import (
    clip_contrastive,
    cross_modal_rank,
    image_grounded_contrast,
    intra_modal_contrast,
    self_distillation,
    text_grounded_contrast,
)

SCALE = torch.tensor(100.0, dtype=torch.float64)
OWN_TERMS = {
    "image_grounded": lambda i, c, n, m: image_grounded_contrast(i, c, n, SCALE, m),
    "text_grounded": lambda i, c, n, m: text_grounded_contrast(c, i, n, negative_mask=m),
    "intra_modal_own": lambda i, c, n, m: intra_modal_contrast(i, c, n, SCALE, m, "own"),
}
ALL_TERMS = {
    **OWN_TERMS,
    "contrast": lambda i, c, n, m: clip_contrastive(i, c, SCALE, n, m),
    "intra_modal": lambda i, c, n, m: intra_modal_contrast(i, c, n, SCALE, m),
    "rank": lambda i, c, n, m: cross_modal_rank(i, c, n, SCALE, 2.0, m)[0],
}


def embeddings(batch=5, kinds=3, width=7, seed=0):
    """Random normalised image, caption and negative embeddings and a ragged mask, float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, width), (batch, width), (batch, kinds, width)]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    mask = (torch.rand(batch, kinds, generator=generator) > 0.4).long()
    return *(value / value.norm(dim=-1, keepdim=True) for value in values), mask


@pytest.mark.parametrize("kinds", [0, 1, 4])
@pytest.mark.parametrize("term", OWN_TERMS)
def test_equal_embeddings_give_log_of_candidates(term, kinds):
    zeros = torch.zeros(3, 8, dtype=torch.float64)
    value = OWN_TERMS[term](zeros, zeros, torch.zeros(3, kinds, 8, dtype=torch.float64), None)
    assert value.item() == pytest.approx(math.log(1 + kinds))


@pytest.mark.parametrize("kinds", [0, 1, 4])
def test_equal_embeddings_in_the_batch_wide_terms(kinds):
    batch = 3
    zeros, negative = torch.zeros(batch, 8), torch.zeros(batch, kinds, 8)
    contrast = clip_contrastive(zeros, zeros, SCALE.float(), negative)
    assert contrast.item() == pytest.approx((math.log(batch * (1 + kinds)) + math.log(batch)) / 2)
    intra = intra_modal_contrast(zeros, zeros, negative, SCALE.float())
    assert intra.item() == pytest.approx(math.log(1 + batch * kinds))


def test_rank_of_equal_scores_is_the_threshold_and_the_next_one_zero():
    zeros, negative = torch.zeros(2, 8), torch.zeros(2, 3, 8)
    loss, following = cross_modal_rank(zeros, zeros, negative, SCALE.float(), torch.tensor([1.0, 2.0, 6.0]))
    assert loss.item() == pytest.approx(3.0)
    assert following.tolist() == [0.0, 0.0, 0.0]


def test_rank_keeps_the_threshold_of_a_kind_without_valid_negatives():
    image, caption, negative, _ = embeddings(kinds=2)
    mask = torch.tensor([[1, 0]] * 5)
    loss, following = cross_modal_rank(image, caption, negative, SCALE, torch.tensor([0.0, 7.5]), mask)
    assert following[1] == 7.5
    gaps = SCALE * ((image * caption).sum(-1) - (image * negative[:, 0]).sum(-1))
    assert following[0].item() == pytest.approx(gaps.mean().item())
    assert loss.item() == pytest.approx((-gaps).clamp(min=0).sum().item() / 10)


def test_rank_without_negatives_is_zero():
    zeros = torch.zeros(2, 8)
    loss, following = cross_modal_rank(zeros, zeros, torch.zeros(2, 0, 8), SCALE.float(), torch.zeros(0))
    assert loss == 0
    assert following.shape == (0,)


def test_distillation_of_opposite_unit_vectors_is_four_a_row():
    unit = torch.eye(3)
    assert self_distillation(unit, -unit) == 12
    assert self_distillation(unit, unit) == 0


@pytest.mark.parametrize("term", ALL_TERMS)
def test_masked_negatives_change_neither_value_nor_gradient(term):
    image, caption, negative, mask = embeddings()
    other = torch.where(mask.bool()[..., None], negative, embeddings(seed=1)[2])
    results = []
    for candidates in (negative, other):
        leaf = candidates.clone().requires_grad_()
        value = ALL_TERMS[term](image, caption, leaf, mask)
        (gradient,) = torch.autograd.grad(value, leaf)
        results.append((value.detach(), gradient))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[0][1][~mask.bool()] == 0).all()
    assert (results[0][1][mask.bool()] != 0).any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
@pytest.mark.parametrize("term", ALL_TERMS)
def test_any_dtype_of_mask(term, dtype):
    *values, mask = embeddings()
    assert torch.equal(ALL_TERMS[term](*values, mask.to(dtype)), ALL_TERMS[term](*values, mask.bool()))


@pytest.mark.parametrize("term", ALL_TERMS)
def test_full_mask_equals_none_and_row_order_does_not_matter(term):
    image, caption, negative, mask = embeddings()
    assert torch.equal(
        ALL_TERMS[term](image, caption, negative, torch.ones_like(mask)),
        ALL_TERMS[term](image, caption, negative, None),
    )
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = ALL_TERMS[term](image[order], caption[order], negative[order], mask[order])
    torch.testing.assert_close(shuffled, ALL_TERMS[term](image, caption, negative, mask), rtol=1e-12, atol=0)


@pytest.mark.parametrize("term", OWN_TERMS)
def test_own_terms_ignore_other_rows_negatives(term):
    """Each row alone, averaged, equals the batch."""
    image, caption, negative, mask = embeddings()
    rows = [OWN_TERMS[term](*(v[i : i + 1] for v in (image, caption, negative, mask))) for i in range(len(image))]
    torch.testing.assert_close(torch.stack(rows).mean(), OWN_TERMS[term](image, caption, negative, mask))


@pytest.mark.parametrize("term", ALL_TERMS)
def test_gradients_are_the_derivatives(term):
    image, caption, negative, mask = embeddings(batch=3, kinds=2, width=4)
    scale_free = [value.clone().requires_grad_() for value in (image, caption, negative)]
    assert torch.autograd.gradcheck(lambda i, c, n: ALL_TERMS[term](i, c, n, mask) / 100, scale_free)


def test_released_text_negatives_are_the_own_ones_for_one_kind_or_one_row():
    for batch, kinds in ((4, 1), (1, 4)):
        image, caption, negative, _ = embeddings(batch, kinds)
        own = text_grounded_contrast(caption, image, negative)
        assert torch.equal(own, text_grounded_contrast(caption, image, negative, negatives="released"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, c, n, m: clip_contrastive(i, c[:2], SCALE), "alike"),
        (lambda i, c, n, m: clip_contrastive(i, c, SCALE, n.flatten(0, 1)), "negative must be"),
        (lambda i, c, n, m: clip_contrastive(i, c, SCALE, None, m), "absent"),
        (lambda i, c, n, m: image_grounded_contrast(i, c, n, SCALE, m.T), "negative_mask must be"),
        (lambda i, c, n, m: text_grounded_contrast(c, i, n, negatives="batch"), "'own', 'released', got 'batch'"),
        (lambda i, c, n, m: intra_modal_contrast(i, c, n, SCALE, negatives="all"), "'batch', 'own', 'head'"),
        (lambda i, c, n, m: intra_modal_contrast(i, c, n[:, :0], SCALE, negatives="head"), "at least one"),
        (lambda i, c, n, m: cross_modal_rank(i, c, n, SCALE, 0.0, rule="median"), "'mean', 'max', 'fixed'"),
        (lambda i, c, n, m: cross_modal_rank(i, c, n, SCALE, torch.zeros(2)), r"one a negative \(3\)"),
        (lambda i, c, n, m: self_distillation(i, n), "same shape"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*embeddings())
