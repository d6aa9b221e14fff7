"""Component similarity and the scores made of it: the paper's figure, masks, blocks and gradients."""

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from compalign.modeling.comalign import component_similarity, defined_pairs, mean_score, released_score

# The figure's entities: three image components, two phrases and one padded row.
FIGURE = torch.tensor([[0.85, 0.10, 0.20], [0.30, 0.70, 0.90], [0.0, 0.0, 0.0]])


def sides(images=5, texts=7, parts=4, phrases=3, width=6, seed=0):
    """Random normalised components and ragged masks, float64; image 1 and text 2 have no component at all."""
    generator = torch.Generator().manual_seed(seed)
    image = normalize(torch.randn(images, parts, width, generator=generator, dtype=torch.float64), dim=-1)
    text = normalize(torch.randn(texts, phrases, width, generator=generator, dtype=torch.float64), dim=-1)
    image_mask = torch.rand(images, parts, generator=generator) > 0.4
    text_mask = torch.rand(texts, phrases, generator=generator) > 0.4
    image_mask[0, 0] = text_mask[0, 0] = True
    image_mask[1], text_mask[2] = False, False
    return image, text, image_mask, text_mask


def by_hand(image, text, image_mask, text_mask):
    """The definition, one pair and one component at a time."""
    i2t = torch.zeros(len(image), len(text), dtype=image.dtype)
    t2i = i2t.T.clone()
    for a in range(len(image)):
        for b in range(len(text)):
            regions, phrases = image[a][image_mask[a]], text[b][text_mask[b]]
            if len(regions) and len(phrases):
                i2t[a, b] = sum(max(float(p @ m) for m in phrases) for p in regions) / len(regions)
                t2i[b, a] = sum(max(float(p @ m) for p in regions) for m in phrases) / len(phrases)
    return i2t, t2i


def test_the_papers_figure():
    """A padded phrase counts as 0: rows .85, .90, 0; columns .85, .70, .90. Then the mean with .95 and .90."""
    entity_i2t, entity_t2i = component_similarity(torch.eye(3)[None], FIGURE[None])
    assert entity_i2t.item() == pytest.approx((0.85 + 0.70 + 0.90) / 3)
    assert entity_t2i.item() == pytest.approx((0.85 + 0.90 + 0) / 3)
    cosine, relation = torch.tensor([[0.95]]), torch.tensor([[0.90]])
    assert mean_score(cosine, [entity_t2i, relation]).item() == pytest.approx(0.811, abs=5e-4)
    assert mean_score(cosine, [entity_i2t, relation]).item() == pytest.approx(0.889, abs=5e-4)


def test_a_masked_phrase_leaves_the_mean():
    _, t2i = component_similarity(torch.eye(3)[None], FIGURE[None], text_mask=torch.tensor([[1, 1, 0]]))
    assert t2i.item() == pytest.approx((0.85 + 0.90) / 2)


def test_the_definition_with_masks():
    torch.testing.assert_close(component_similarity(*sides()), by_hand(*sides()), rtol=1e-12, atol=1e-12)


def test_without_masks_every_component_takes_part():
    image, text, *masks = sides()
    full = [torch.ones_like(mask) for mask in masks]
    torch.testing.assert_close(component_similarity(image, text), by_hand(image, text, *full), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(component_similarity(image, text, *full), component_similarity(image, text))


def gradients(chunk, weights, **other):
    image, text, *masks = {**dict(enumerate(sides())), **other}.values()
    leaves = image.requires_grad_(), text.requires_grad_()
    i2t, t2i = component_similarity(*leaves, *masks, chunk=chunk)
    return i2t, t2i, *torch.autograd.grad((i2t * weights).sum() + (t2i * weights.T.cos()).sum(), leaves)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7])
def test_blocks_change_neither_values_nor_gradients(chunk):
    weights = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(gradients(chunk, weights), gradients(100, weights), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    image, text, *masks = sides(images=3, texts=4)
    leaves = image.requires_grad_(), text.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: component_similarity(a, b, *masks, chunk=2), leaves)


def test_masked_components_and_pairs_without_any_get_no_gradient():
    *_, image_mask, text_mask = sides()
    i2t, t2i, image_gradient, text_gradient = gradients(None, torch.ones(5, 7, dtype=torch.float64))
    assert (image_gradient[~image_mask] == 0).all()
    assert (text_gradient[~text_mask] == 0).all()
    assert (image_gradient[image_mask] != 0).any(-1).sum() > 1
    for values in (i2t, t2i, image_gradient, text_gradient):
        assert values.isfinite().all()
    defined = defined_pairs(image_mask, text_mask)
    assert (i2t[~defined] == 0).all()
    assert (t2i.T[~defined] == 0).all()
    assert defined.any()
    assert not defined[1].any()
    assert not defined[:, 2].any()


def test_a_role_without_slots_is_undefined_everywhere():
    i2t, t2i = component_similarity(torch.zeros(2, 0, 4), torch.zeros(3, 5, 4))
    assert (i2t.shape, t2i.shape) == ((2, 3), (3, 2))
    assert not defined_pairs(torch.zeros(2, 0), torch.ones(3, 5)).any()


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return result


@pytest.mark.parametrize("count", [12, 48])
def test_memory_is_that_of_one_block_in_training_too(count):
    image, text = torch.randn(count, 4, 2, requires_grad=True), torch.randn(count, 3, 2, requires_grad=True)
    masks = torch.ones(count, 4, dtype=torch.bool), torch.ones(count, 3, dtype=torch.bool)
    saved = []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.untyped_storage()) or t, lambda t: t)
    with Largest() as largest, keep:
        i2t, t2i = component_similarity(image, text, *masks, chunk=6)
        (i2t.sum() + t2i.sum()).backward()
    assert largest.numel <= max(6 * 6 * 4 * 3, count * count)
    inputs = {tensor.untyped_storage().data_ptr() for tensor in (image, text, *masks)}
    assert saved
    assert {storage.data_ptr() for storage in saved} <= inputs


def test_a_large_batch_is_cut_into_blocks_by_itself(monkeypatch):
    monkeypatch.setattr("compalign.modeling.comalign.similarity.BLOCK_COSINES", 3 * 3 * 4 * 3)
    image, text, *masks = sides()
    with Largest() as largest:
        values = component_similarity(image, text, *masks)
    assert largest.numel <= 3 * 3 * 4 * 3
    torch.testing.assert_close(values, by_hand(image, text, *masks), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3, 4)), "components must be"),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 3, 5)), "components must be"),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, 2)), "image_mask must be"),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), None, torch.ones(3)), "text_mask must be"),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), None, None, 0), "chunk must be"),
    ],
)
def test_wrong_shapes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        component_similarity(*arguments)


def test_a_missing_role_leaves_the_mean_of_its_pair():
    cosine, entity, relation = torch.tensor([[0.9, 0.6]]), torch.tensor([[0.3, 0.2]]), torch.tensor([[0.9, 0.1]])
    present, partly = torch.tensor([[True, True]]), torch.tensor([[False, True]])
    score = mean_score(cosine, [entity, relation], [present, partly])
    torch.testing.assert_close(score, torch.tensor([[0.6, 0.3]]))
    torch.testing.assert_close(mean_score(cosine, [entity, relation]), torch.tensor([[0.7, 0.3]]))
    torch.testing.assert_close(mean_score(cosine, []), cosine)


def test_the_released_score_depends_on_the_other_candidates():
    base, head, fine = torch.eye(3), torch.eye(3), torch.eye(3)
    i2t, t2i = released_score(base, head, fine, fine)
    torch.testing.assert_close(i2t, 2.14 * torch.eye(3))
    torch.testing.assert_close(t2i, 12 * torch.eye(3))
    fewer, _ = released_score(base[:, :2], head[:, :2], fine[:, :2], fine[:2])
    assert fewer[0, 0] != i2t[0, 0]
