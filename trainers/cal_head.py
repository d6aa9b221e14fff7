"""CAL at the output head: how a model finishes its logits, and loss and deltas without a batch's worth of them.

Shapes: B rows, N tokens, H hidden width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

# Some models multiply the head's logits by one of these, others divide by the one of the same name or ignore it.
SCALES = ("logits_scaling", "logit_scale", "output_multiplier", "logits_mup_width_multiplier")
SOFT_CAP = "final_logit_softcapping"
ROUNDINGS = 4  # between the head's logits and the finished ones, at most


@dataclass(frozen=True)
class Finish:
    """The change that a model makes to the logits of its output head.

    Args:
        factor (`float`): Multiplies the logits.
        cap (`float`, *optional*): Bounds them softly: `cap * tanh(logits / cap)`.
        width (`int`, *optional*): Number of tokens kept; the rows of the head beyond it belong to no token.
    """

    factor: float = 1.0
    cap: float | None = None
    width: int | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Finish logits of shape `(..., V)`."""
        if self.width is not None:
            logits = logits[..., : self.width]
        if self.factor != 1.0:
            logits = logits * self.factor
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


UNCHANGED = Finish()


class HeadCall(NamedTuple):
    """The last token of each row on its way through the output head, in one forward of the whole model."""

    hidden: Tensor  # (B, H), last states of the language model
    given: Tensor  # (B, H), to the head
    made: Tensor  # (B, V), by the head
    logits: Tensor  # (B, V) or fewer, of the model


def find_finish(model: PreTrainedModel, call: HeadCall) -> Finish:
    """Find how a model makes logits of its last hidden states, by comparison with a forward of its own.

    The scales and the soft cap of its configuration are tried: one name stands for a factor in one family, for a
    divisor in another, and for nothing in a third, so the configuration alone cannot tell.

    Args:
        model (`PreTrainedModel`): The unwrapped model.
        call (`HeadCall`): What the head met in that forward.

    Raises:
        ValueError: If none of them gives the model's own logits.
    """
    config = model.config.get_text_config()
    scales = [value for name in SCALES if (value := getattr(config, name, None))]
    factors = [*(factor for value in scales for factor in (value, 1 / value)), 1.0]
    width = call.logits.shape[-1] if call.logits.shape[-1] < call.made.shape[-1] else None
    before = [Finish(factor) for factor in factors]
    after = [Finish(factor, cap, width) for cap in (getattr(config, SOFT_CAP, None), None) for factor in factors]
    first, first_error = _closest(before, call.hidden, call.given)
    second, second_error = _closest(after, call.made, call.logits)
    biased = first.factor != 1.0 and getattr(model.get_output_embeddings(), "bias", None) is not None
    if first_error > 1 or second_error > 1 or biased:
        known = ", ".join(f"{name}={getattr(config, name)}" for name in (*SCALES, SOFT_CAP) if hasattr(config, name))
        raise ValueError(
            f"CAL cannot train {type(model).__name__}: between its last hidden states and its logits it does more than "
            f"its output head and the scales of its configuration explain ({known or 'it has none'}), so a loss "
            "computed from the head would not be the model's own"
        )
    return Finish(first.factor * second.factor, second.cap, second.width)


def _closest(finishes: list[Finish], source: Tensor, wanted: Tensor) -> tuple[Finish, float]:
    """Choose the finish that comes closest, the first of equals; its error is in units of what rounding explains."""
    rounding = ROUNDINGS * max(torch.finfo(source.dtype).eps, torch.finfo(wanted.dtype).eps)
    wide = torch.promote_types(source.dtype, torch.float32)
    source, wanted = source.to(wanted.device, wide), wanted.to(wide)
    errors = torch.stack([_error(finish(source), wanted) for finish in finishes]).tolist()
    best = min(range(len(errors)), key=errors.__getitem__)
    return finishes[best], errors[best] / rounding


def _error(made: Tensor, wanted: Tensor) -> Tensor:
    """Largest difference, in units of the largest value; NaN, as on padding, agrees with everything."""
    if made.shape != wanted.shape:
        return made.new_tensor(torch.inf)
    difference = torch.where(made == wanted, 0.0, (made - wanted).abs()).nan_to_num(nan=0.0, posinf=torch.inf)
    largest = made.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().amax()
    return difference.amax() / largest.clamp_min(torch.finfo(made.dtype).tiny)


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Let a module compute as in evaluation."""
    # A linear layer computes the same in evaluation, but one of bitsandbytes would repack its weights there, with loss.
    trained = [part for part in module.modules() if part.training and not isinstance(part, nn.Linear)]
    try:
        for part in trained:
            part.training = False
        yield
    finally:
        for part in trained:
            part.training = True


# Loss and deltas inside the output head


def chunked_cross_entropy_sum(
    head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    weights: Tensor,
    chunk: int = 1024,
    finish: Finish = UNCHANGED,
) -> Tensor:
    """Weighted sum of the cross-entropies of tokens, with gradients for the hidden states and the head.

    Weights are known, so the gradient of each chunk is taken while its logits are in memory: nothing is computed twice,
    and the memory is that of one chunk of logits instead of all. The head is called as a module, so sharding,
    quantisation and adapters of the head take part.

    Args:
        head (`nn.Module`): Maps hidden states to logits over V tokens: a linear layer or anything in its place.
        hidden (`torch.Tensor` of shape `(N, H)`): The states that predict the supervised tokens.
        labels (`torch.LongTensor` of shape `(N,)`): The tokens that they should predict.
        weights (`torch.Tensor` of shape `(N,)`): Of each token's loss; no gradient flows to them.
        chunk (`int`): Number of tokens whose logits are held at a time, >= 1.
        finish (`Finish`): Change that the model makes to the head's logits.

    Returns:
        `torch.Tensor` of shape `()`, float32 or wider: `sum_i weights_i * CE(head(hidden_i), labels_i)`.

    Reference:
        The sum in CAL, Eq. 5, https://huggingface.co/papers/2405.17871.
    """
    plain = head.forward

    def logits_of(states: Tensor) -> Tensor:
        return finish(plain(states))

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
    finish: Finish = UNCHANGED,
) -> Tensor:
    """Difference of each label's logit between two states, in float32 or wider.

    For a plain linear head it is one dot product per token, `<seen_i - unseen_i, W[labels_i]>`, without a vocabulary's
    worth of logits and without the rounding of half precision. Any other head, and one below a soft cap, computes its
    logits, chunk by chunk. Dropout is off: equal states have a difference of 0.

    Args:
        head (`nn.Module`): Maps hidden states to logits over V tokens.
        seen, unseen (`torch.Tensor` of shape `(N, H)`): States with and without the image.
        labels (`torch.LongTensor` of shape `(N,)`): The tokens that they should predict.
        chunk (`int`): Number of tokens whose logits are held at a time, where logits are needed.
        finish (`Finish`): Change that the model makes to the head's logits.

    Returns:
        `torch.Tensor` of shape `(N,)`: the delta of CAL, Eq. 1 and 2, https://huggingface.co/papers/2405.17871.
    """
    plain = head.forward
    wide = torch.promote_types(seen.dtype, torch.float32)

    def by_rows(seen: Tensor) -> Tensor:
        return finish.factor * ((seen.to(wide) - unseen.to(wide)) * head.weight[labels].to(wide)).sum(-1)

    def own_logit(states: Tensor, labels: Tensor) -> Tensor:
        return finish(plain(states).to(wide)).gather(1, labels[:, None])[:, 0]

    def by_logits(seen: Tensor) -> Tensor:
        parts = zip(seen.split(chunk), unseen.split(chunk), labels.split(chunk), strict=True)
        return torch.cat([own_logit(one, y) - own_logit(two, y) for one, two, y in parts])

    one_product = type(head) is nn.Linear and finish.cap is None
    with without_dropout(head), _calling_instead(head, by_rows if one_product else by_logits):
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
            if hidden_gradient is not None:
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
