"""What is computed inside a model's output head, without ever holding the logits of more than one chunk of tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def chunked_cross_entropy_sum(
    head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    weights: Tensor,
    chunk: int = 1024,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Weighted sum of the cross-entropies of tokens, with gradients for the hidden states and the head.

    Weights are known, so the gradient of each chunk is taken while its logits are at hand: nothing is computed twice,
    and the memory is that of one chunk of logits instead of all. The head is called as a module, so that whatever
    shards, quantises or adapts it takes part.

    Args:
        head (`nn.Module`): Maps hidden states to logits over V tokens: a linear layer or anything in its place.
        hidden (`torch.Tensor` of shape `(N, H)`): The states that predict the supervised tokens.
        labels (`torch.LongTensor` of shape `(N,)`): The tokens that they should predict.
        weights (`torch.Tensor` of shape `(N,)`): Of each token's loss; no gradient flows to them.
        chunk (`int`): Tokens whose logits exist at a time, >= 1.
        finish (`Callable`, *optional*): What the model does to the head's logits, such as a soft cap.

    Returns:
        `torch.Tensor` of shape `()`, float32 or wider: `sum_i weights_i * CE(head(hidden_i), labels_i)`.

    Reference:
        The sum in CAL, Eq. 5, https://huggingface.co/papers/2405.17871.
    """
    plain = head.forward
    logits_of = plain if finish is None else (lambda states: finish(plain(states)))

    def total(hidden: Tensor) -> Tensor:
        taken = torch.is_grad_enabled()
        trained = [parameter for parameter in head.parameters() if parameter.requires_grad and taken]
        states = hidden if taken else hidden.detach()
        return _ChunkedCrossEntropySum.apply(logits_of, chunk, labels, weights, states, *trained)

    with _calling_instead(head, total):
        return head(hidden)


@torch.no_grad()
def label_gain(
    head: nn.Module,
    seen: Tensor,
    unseen: Tensor,
    labels: Tensor,
    chunk: int = 1024,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Difference of each label's logit between two states, in float32 or wider.

    For a plain linear head it is one dot product a token, `<seen_i - unseen_i, W[labels_i]>`, without a vocabulary's
    worth of logits and without the rounding of half precision. Any other head computes its logits, chunk by chunk.

    Args:
        head (`nn.Module`): Maps hidden states to logits over V tokens.
        seen, unseen (`torch.Tensor` of shape `(N, H)`): States with and without the image.
        labels (`torch.LongTensor` of shape `(N,)`): The tokens that they should predict.
        chunk (`int`): Tokens whose logits exist at a time, where logits are needed.
        finish (`Callable`, *optional*): What the model does to the head's logits.

    Returns:
        `torch.Tensor` of shape `(N,)`: the delta of CAL, Eq. 1 and 2, https://huggingface.co/papers/2405.17871.
    """
    plain = head.forward
    wide = torch.promote_types(seen.dtype, torch.float32)

    def by_rows(seen: Tensor) -> Tensor:
        return ((seen.to(wide) - unseen.to(wide)) * head.weight[labels].to(wide)).sum(-1)

    def own_logit(states: Tensor, labels: Tensor) -> Tensor:
        logits = plain(states).to(wide)
        return (logits if finish is None else finish(logits)).gather(1, labels[:, None])[:, 0]

    def by_logits(seen: Tensor) -> Tensor:
        parts = zip(seen.split(chunk), unseen.split(chunk), labels.split(chunk), strict=True)
        return torch.cat([own_logit(one, y) - own_logit(two, y) for one, two, y in parts])

    with _calling_instead(head, by_rows if type(head) is nn.Linear and finish is None else by_logits):
        return head(seen)


@contextmanager
def _calling_instead(head: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a call of the module run `function`: within it the weights of a sharded head are gathered, backward too."""
    own = vars(head).get("forward")  # accelerate's hooks put one on the instance
    head.forward = function
    try:
        yield
    finally:
        del head.forward
        if own is not None:
            head.forward = own


class _ChunkedCrossEntropySum(torch.autograd.Function):
    """Takes all gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(ctx, logits_of, chunk: int, labels: Tensor, weights: Tensor, hidden: Tensor, *trained: Tensor):
        total = torch.zeros((), dtype=weights.dtype, device=hidden.device)
        wanted = ctx.needs_input_grad[4]
        hidden_gradient = torch.zeros_like(hidden) if wanted else None
        # Sums over many chunks lose their low bits in half precision.
        sums = [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in trained]
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_(wanted)
                logits = logits_of(states).to(weights.dtype)
                value = (weights[part] * F.cross_entropy(logits, labels[part], reduction="none")).sum()
            del logits
            total += value.detach()
            leaves = [states, *trained] if wanted else list(trained)
            if not leaves:
                continue
            gradients = list(torch.autograd.grad(value, leaves))
            if wanted:
                hidden_gradient[part] = gradients.pop(0)
            for running, gradient in zip(sums, gradients, strict=True):
                running += gradient
        ctx.save_for_backward(hidden_gradient, *(running.to(p.dtype) for running, p in zip(sums, trained, strict=True)))
        return total

    @staticmethod
    def backward(ctx, scale: Tensor):
        gradients = [
            None if gradient is None else gradient * scale.to(gradient.dtype) for gradient in ctx.saved_tensors
        ]
        return None, None, None, None, *gradients
