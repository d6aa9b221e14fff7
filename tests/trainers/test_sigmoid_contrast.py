"""SigLIP's loss: closed forms, hard negatives, ignored pairs, and transformers' own value."""

import math

import pytest
import torch
from transformers import SiglipConfig, SiglipModel

from compalign.trainers.losses import sigmoid_contrast

SCALE = torch.tensor(10.0, dtype=torch.float64)
BIAS = torch.tensor(-10.0, dtype=torch.float64)


def pairs(images=4, texts=7, width=6, seed=0):
    """Random normalised images and texts, positive and ignored pairs, float64; the last text fits no image."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for rows in (images, texts))
    positive = torch.rand(images, texts, generator=generator) > 0.6
    positive[:, -1] = False
    ignore = torch.rand(images, texts, generator=generator) > 0.7
    return *(value / value.norm(dim=-1, keepdim=True) for value in (image, text)), positive, ignore


@pytest.mark.parametrize(("images", "texts", "ignored"), [(1, 1, 0), (3, 3, 0), (3, 5, 0), (4, 2, 3)])
def test_undecided_pairs_cost_log_two_each(images, texts, ignored):
    """Positive or not: at logits of 0, the value is log 2 times the pairs that count, per text."""
    positive = torch.rand(images, texts) > 0.5
    ignore = (torch.arange(images * texts) < ignored).view(images, texts)
    zeros = torch.zeros(images, 8), torch.zeros(texts, 8)
    value = sigmoid_contrast(*zeros, positive, SCALE.float(), torch.tensor(0.0), ignore)
    assert value.item() == pytest.approx(math.log(2) * (images * texts - ignored) / texts)


def test_equal_embeddings_have_a_closed_form():
    """Every cosine is 1, so each text pays once as a positive and B - 1 times as a negative."""
    batch, ones = 5, torch.eye(1, 3, dtype=torch.float64)
    scale, bias = torch.tensor(2.0, dtype=torch.float64), torch.tensor(-0.5, dtype=torch.float64)
    rows = ones.expand(batch, 3)
    expected = math.log1p(math.exp(-1.5)) + (batch - 1) * math.log1p(math.exp(1.5))
    value = sigmoid_contrast(rows, rows, torch.eye(batch).bool(), scale, bias)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("with_ignored", [False, True])
def test_value_of_an_independent_reference(with_ignored):
    image, text, positive, ignore = pairs()
    total = 0.0
    for i in range(len(image)):
        for n in range(len(text)):
            if with_ignored and ignore[i, n]:
                continue
            logit = 10.0 * sum(a * b for a, b in zip(image[i].tolist(), text[n].tolist(), strict=True)) - 10.0
            sign = 1 if positive[i, n] else -1
            total += math.log(1 + math.exp(-sign * logit))
    value = sigmoid_contrast(image, text, positive, SCALE, BIAS, ignore if with_ignored else None)
    assert value.item() == pytest.approx(total / len(text), rel=1e-12)


def test_loss_and_gradients_of_transformers_siglip():
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 20, "max_position_embeddings": 6, "projection_size": 16},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
    )
    model = SiglipModel(config).eval()
    model.logit_scale.data.fill_(1.5)
    model.logit_bias.data.fill_(-2.0)
    batch = {"input_ids": torch.randint(0, 20, (5, 6)), "pixel_values": torch.randn(5, 3, 16, 16)}
    output = model(**batch, return_loss=True)
    value = sigmoid_contrast(
        output.image_embeds,
        output.text_embeds,
        torch.eye(5, dtype=torch.bool),
        model.logit_scale.exp(),
        model.logit_bias,
    )
    torch.testing.assert_close(value, output.loss)
    parameters = list(model.parameters())
    expected, actual = (
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in (output.loss, value)
    )
    assert actual[0].shape == model.logit_scale.shape
    assert actual[0].abs() > 0
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_hard_negative_adds_its_column_and_nothing_else():
    """Before the division by the number of texts, which it raises by one."""
    image, text, positive, _ = pairs()
    without = sigmoid_contrast(image, text[:-1], positive[:, :-1], SCALE, BIAS)
    column = torch.log1p(torch.exp(SCALE * (image @ text[-1]) + BIAS)).sum()
    value = sigmoid_contrast(image, text, positive, SCALE, BIAS)
    torch.testing.assert_close(value * 7, without * 6 + column, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_ignored_pairs_change_neither_value_nor_gradient(dtype):
    image, text, positive, ignore = pairs()
    value = sigmoid_contrast(image, text, positive, SCALE, BIAS, ignore.to(dtype))
    assert torch.equal(value, sigmoid_contrast(image, text, positive ^ ignore, SCALE, BIAS, ignore))
    assert value < sigmoid_contrast(image, text, positive, SCALE, BIAS)

    # The gradient of one image is the sum over its pairs that count; a row and a column of ignored ones get none.
    ignore[0], ignore[:, 2] = True, True
    leaves = [image.clone().requires_grad_(), text.clone().requires_grad_()]
    value = sigmoid_contrast(*leaves, positive, SCALE, BIAS, ignore.to(dtype))
    image_gradient, text_gradient = torch.autograd.grad(value, leaves)
    slope = torch.sigmoid(SCALE * (image @ text.T) + BIAS) - positive.double()
    slope = torch.where(ignore, 0.0, slope) * SCALE / len(text)
    torch.testing.assert_close(image_gradient, slope @ text, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(text_gradient, slope.T @ image, rtol=1e-10, atol=1e-12)
    assert (image_gradient[0] == 0).all()
    assert (text_gradient[2] == 0).all()
    assert (image_gradient[1:] != 0).all()


def test_ignored_text_counts_in_the_number_of_texts():
    image, text, positive, ignore = pairs()
    ignore[:] = False
    ignore[:, -1] = True
    without = sigmoid_contrast(image, text[:-1], positive[:, :-1], SCALE, BIAS)
    value = sigmoid_contrast(image, text, positive, SCALE, BIAS, ignore)
    torch.testing.assert_close(value * 7, without * 6, rtol=1e-12, atol=0)


def test_without_texts_or_pairs_that_count_the_value_is_zero():
    image, text, positive, ignore = pairs()
    assert sigmoid_contrast(image, text[:0], positive[:, :0], SCALE, BIAS) == 0
    assert sigmoid_contrast(image, text, positive, SCALE, BIAS, torch.ones_like(ignore)) == 0


def test_confident_mistakes_stay_finite():
    """At a logit of 1,000 exp overflows; the loss of a wrong pair is the logit itself."""
    rows = torch.eye(2)
    leaf = rows.clone().requires_grad_()
    positive = torch.zeros(2, 2, dtype=torch.bool)
    value = sigmoid_contrast(leaf, rows, positive, torch.tensor(1000.0), torch.tensor(0.0))
    assert value.item() == pytest.approx((2 * 1000 + 2 * math.log(2)) / 2)
    (gradient,) = torch.autograd.grad(value, leaf)
    assert gradient.isfinite().all()


def test_order_of_texts_does_not_matter_and_scale_may_have_one_element():
    image, text, positive, ignore = pairs()
    order = torch.tensor([6, 2, 0, 5, 1, 3, 4])
    shuffled = sigmoid_contrast(image, text[order], positive[:, order], SCALE[None], BIAS[None], ignore[:, order])
    assert shuffled.shape == ()
    expected = sigmoid_contrast(image, text, positive, SCALE, BIAS, ignore)
    torch.testing.assert_close(shuffled, expected, rtol=1e-12, atol=0)


def test_gradients_are_the_derivatives():
    image, text, positive, ignore = pairs(images=3, texts=4, width=5)
    leaves = [value.clone().requires_grad_() for value in (image, text, SCALE, BIAS)]
    assert torch.autograd.gradcheck(lambda i, t, s, b: sigmoid_contrast(i, t, positive, s, b, ignore), leaves)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, t, p, g: (i, t[:, :5], p), r"same width, got \(4, 6\) and \(7, 5\)"),
        (lambda i, t, p, g: (i[0], t, p), r"same width, got \(6,\) and \(7, 6\)"),
        (lambda i, t, p, g: (i, t[None], p), r"got \(4, 6\) and \(1, 7, 6\)"),
        (lambda i, t, p, g: (i, t, p.T), r"positive must be \(images, texts\) = \(4, 7\), got \(7, 4\)"),
        (lambda i, t, p, g: (i, t, p[:1]), r"positive must be \(images, texts\) = \(4, 7\), got \(1, 7\)"),
        (lambda i, t, p, g: (i, t, 2 * p.float() - 1), r"positive must be boolean, .* got torch\.float32"),
        (lambda i, t, p, g: (i, t, p, g.T), r"ignore must be \(images, texts\) = \(4, 7\), got \(7, 4\)"),
        (lambda i, t, p, g: (i, t, p, g[0]), r"ignore must be \(images, texts\) = \(4, 7\), got \(7,\)"),
    ],
)
def test_wrong_input_is_named(call, message):
    image, text, positive, *ignore = call(*pairs())
    with pytest.raises(ValueError, match=message):
        sigmoid_contrast(image, text, positive, SCALE, BIAS, *ignore)
