"""Losses and label logits computed inside the output head equal the plain forms that hold all logits."""

import pytest
import torch
from torch import nn

from compalign.trainers.cal_head import UNCHANGED, Finish, chunked_cross_entropy_sum, label_gain
from compalign.trainers.losses import weighted_next_token_loss

ROWS, LENGTH, WIDTH, VOCABULARY = 3, 9, 6, 17


FINISHES = [UNCHANGED, Finish(cap=2.0), Finish(factor=0.25), Finish(0.5, 2.0, VOCABULARY - 2)]


class Adapted(nn.Module):
    """A head that is no plain linear layer."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, VOCABULARY, bias=False)

    def forward(self, hidden):
        return self.base(hidden) + self.up(self.down(hidden))


HEADS = {
    "linear": lambda: nn.Linear(WIDTH, VOCABULARY, bias=False),
    "bias": lambda: nn.Linear(WIDTH, VOCABULARY),
    "adapted": Adapted,
    "frozen": lambda: nn.Linear(WIDTH, VOCABULARY).requires_grad_(False),
}


def make_batch():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, LENGTH, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(VOCABULARY - 2, (ROWS, LENGTH), generator=generator)
    labels[torch.rand(ROWS, LENGTH, generator=generator) < 0.4] = -100
    weights = 1 + 4 * torch.rand(ROWS, LENGTH - 1, generator=generator, dtype=torch.float64)
    return hidden, labels, weights


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("kind", HEADS)
def test_chunked_loss_equals_the_reference_in_value_and_gradients(kind, chunk, finish):
    torch.manual_seed(1)
    head = HEADS[kind]().double()
    hidden, labels, weights = make_batch()
    leaves = [hidden, *(parameter for parameter in head.parameters() if parameter.requires_grad)]
    logits = finish(head(hidden))
    expected = weighted_next_token_loss(logits, labels, weights)
    supervised = labels[:, 1:] != -100
    total = chunked_cross_entropy_sum(
        head, hidden[:, :-1][supervised], labels[:, 1:][supervised], weights[supervised], chunk, finish
    )
    actual = total / (weights[supervised].sum() + 1e-6)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)
    for one, two in zip(torch.autograd.grad(actual, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)


def test_no_more_than_a_chunk_of_logits_exists_and_the_head_is_as_before():
    head = nn.Linear(WIDTH, VOCABULARY)
    seen = []
    head.register_forward_hook(lambda module, args, output: seen.append("called"))
    plain = head.forward
    head.forward = lambda states: seen.append(len(states)) or plain(states)
    chunked_cross_entropy_sum(head, torch.randn(10, WIDTH), torch.arange(10), torch.ones(10), chunk=4)
    assert seen == [4, 4, 2, "called"]
    assert head.forward(torch.randn(2, WIDTH)).shape == (2, VOCABULARY)


def test_evaluation_takes_no_gradient():
    head = nn.Linear(WIDTH, VOCABULARY)
    with torch.no_grad():
        total = chunked_cross_entropy_sum(head, torch.randn(3, WIDTH), torch.arange(3), torch.ones(3))
    assert not total.requires_grad


def test_no_supervised_token_gives_zero_with_zero_gradients():
    head = nn.Linear(WIDTH, VOCABULARY)
    none = torch.zeros(0, WIDTH, requires_grad=True)
    total = chunked_cross_entropy_sum(head, none, torch.zeros(0, dtype=torch.long), torch.zeros(0))
    total.backward()
    assert total == 0
    assert not head.weight.grad.any()


def test_half_precision_is_summed_in_float32():
    """bfloat16 would lose the gradients of late chunks in the sum of the early ones."""
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).bfloat16()
    hidden, labels = torch.randn(512, WIDTH).bfloat16(), torch.randint(VOCABULARY, (512,))
    chunked_cross_entropy_sum(head, hidden, labels, torch.ones(512), chunk=1).backward()
    exact = head.weight.detach().float().requires_grad_()
    nn.functional.cross_entropy(hidden.float() @ exact.T, labels, reduction="sum").backward()
    error = (head.weight.grad.float() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.01


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("kind", HEADS)
def test_label_gain_equals_the_difference_of_logits(kind, finish):
    torch.manual_seed(1)
    head = HEADS[kind]().double()
    seen, unseen = torch.randn(2, 11, WIDTH, dtype=torch.float64)
    labels = torch.randint(VOCABULARY - 2, (11,))
    logits = [finish(head(states)) for states in (seen, unseen)]
    expected = (logits[0] - logits[1]).gather(1, labels[:, None])[:, 0]
    actual = label_gain(head, seen, unseen, labels, chunk=4, finish=finish)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
