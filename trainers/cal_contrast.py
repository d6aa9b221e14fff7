"""CAL's contrast pass: the language model's states at the same tokens, had it not seen the image.

The image tokens are dropped and every other token keeps its position, so the pass costs what its text costs. That is
exact where each token reaches all earlier ones by attention alone; where it does not, image tokens stay in place behind
the attention mask instead ("masked"), as in the authors' code.

Shapes: B rows, L tokens per row, H hidden width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.chat.encoder import image_token_ids

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")  # inputs with one value per token, in the models that have them
FULL_ATTENTION = "full_attention"
WINDOWED_ATTENTION = ("sliding_attention", "chunked_attention")


@dataclass
class LanguageModelCall:
    """Inputs and outputs of one call of the language model, recorded from outside."""

    positions: Tensor | None = None  # as the model made them: (B, L), (1, L), (3 or 4, B, L), or None for 0, 1, 2, ...
    embeddings: Tensor = field(init=False)  # (B, L, H), image features in place
    hidden: Tensor = field(init=False)  # (B, L, H)


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[LanguageModelCall]:
    """Record the next call of a model's language model; its last hidden state carries gradient as usual."""
    call, decoder = LanguageModelCall(), model.get_decoder()

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        call.positions, call.embeddings = kwargs.get("position_ids"), kwargs["inputs_embeds"]

    def after(module: nn.Module, args: tuple, output) -> None:
        call.hidden = output[0]

    hooks = [decoder.register_forward_pre_hook(before, with_kwargs=True), decoder.register_forward_hook(after)]
    try:
        yield call
    finally:
        for hook in hooks:
            hook.remove()


def watched_forward(
    model: nn.Module, plain: PreTrainedModel, inputs: dict[str, Tensor]
) -> tuple[Any, LanguageModelCall]:
    """Run a model without a cache and with one row of logits; return its output and the call of its language model.

    Args:
        model (`nn.Module`): The model as it is trained, in whatever wraps it.
        plain (`PreTrainedModel`): The same, unwrapped.
        inputs (`dict`): Arguments of its forward, without labels.
    """
    with watched(plain) as call:
        return model(**inputs, logits_to_keep=1, use_cache=False), call


def image_tokens(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Mark the tokens in whose place image and video features stand: a mask of the shape of `input_ids`."""
    return torch.isin(input_ids, input_ids.new_tensor(image_token_ids(model)))


def why_inexact(model: PreTrainedModel, length: int) -> str | None:
    """Say why dropping image tokens would change the contrast pass on rows of `length` tokens; None where it is exact.

    Raises:
        ValueError: If the image reaches the language model through cross-attention: there is nothing to drop or mask.
    """
    config = model.config.get_text_config()
    if getattr(config, "cross_attention_layers", None):
        raise ValueError(
            f"{type(model).__name__} reads images through cross-attention, not as tokens of the text; CAL's contrast "
            "pass knows only image tokens. Train it with --cal false."
        )
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    kinds = set(getattr(config, "layer_types", None) or [WINDOWED_ATTENTION[0] if window else FULL_ATTENTION])
    others = kinds - {FULL_ATTENTION, *WINDOWED_ATTENTION}
    if others:
        return f"its layers keep a state besides attention ({', '.join(sorted(others))})"
    if kinds & set(WINDOWED_ATTENTION) and (window is None or length > window):
        return f"its attention reaches {window} tokens back and rows have {length}"
    return None


def contrast_mode(
    model: PreTrainedModel, length: int, asked: Literal["auto", "dropped", "masked"] = "auto"
) -> Literal["dropped", "masked"]:
    """Choose how to take the image away from rows of `length` tokens: as asked, or by dropping where that is exact.

    Raises:
        ValueError: If dropping is asked for and not exact, or the image reaches the language model in another way.
    """
    reason = why_inexact(model, length)
    if asked == "dropped" and reason is not None:
        raise ValueError(
            f"contrast='dropped' is not exact for {type(model).__name__}: {reason}; use 'auto' or 'masked'"
        )
    return "masked" if asked == "masked" or reason is not None else "dropped"


@torch.no_grad()
def states_without_image(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    call: LanguageModelCall,
    asked: Tensor,
    mode: Literal["dropped", "masked"],
) -> tuple[Tensor, Tensor]:
    """Run the language model without the image and return its states at the tokens asked for.

    No vision tower runs, one row of logits is computed per row, dropout is off and no random number is consumed. Rows
    without an image are left out of the dropped pass: their states are those of the main pass.

    Args:
        model (`PreTrainedModel`): The unwrapped model.
        inputs (`dict`): The batch of the main pass.
        call (`LanguageModelCall`): What the main pass gave to the language model.
        asked (`torch.BoolTensor` of shape `(B, L)`): The tokens whose states are wanted. A token that is itself part
            of an image gets, in the dropped pass, the state of the last text token before it.
        mode (`str`): `"dropped"` or `"masked"`.

    Returns:
        `(torch.BoolTensor of shape (B, L), torch.Tensor of shape (N, H))`: which of those tokens have a state without
        the image, and these states in the order of rows and tokens.
    """
    image = image_tokens(model, inputs["input_ids"])  # (B, L)
    visible = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool() & ~image
    if mode == "masked":
        arguments = {key: inputs[key] for key in TOKEN_TYPES if key in inputs}
        arguments |= {"inputs_embeds": call.embeddings.detach(), "attention_mask": visible.long()}
        if call.positions is not None:
            arguments["position_ids"] = call.positions
        return asked, _language_states(model, arguments)[asked]

    rows = image.any(1)
    rows[0] |= ~rows.any()  # processes that share the shards of a model have to call it equally often
    text = visible[rows]
    order = (~text).int().argsort(dim=1, stable=True)[:, : int(text.sum(1).max())]  # text first
    arguments = {key: inputs[key][rows].gather(1, order) for key in ("input_ids", *TOKEN_TYPES) if key in inputs}
    # Without a mask transformers takes a jump in the positions for the border of another packed text.
    arguments["attention_mask"] = text.gather(1, order).long()
    arguments["position_ids"] = _gather_positions(call.positions, rows, order, image.shape[1])
    place = visible.cumsum(1) - 1  # of a token, or of the last text token before it
    compared = asked & rows[:, None] & (place >= 0)
    row, column = compared[rows].nonzero(as_tuple=True)
    return compared, _language_states(model, arguments)[row, place[rows][row, column]]


def _gather_positions(positions: Tensor | None, rows: Tensor, order: Tensor, length: int) -> Tensor:
    """Select the positions of the kept tokens, in whatever shape the model counts them."""
    if positions is None:
        positions = torch.arange(length, device=order.device)[None]
    leading = positions.shape[:-2]
    kept = positions.expand(*leading, len(rows), length)[..., rows, :]
    return kept.gather(-1, order.expand(*leading, *order.shape))


def _language_states(model: PreTrainedModel, arguments: dict[str, Tensor]) -> Tensor:
    """Last hidden states of one forward without dropout, without a cache, leaving the random state as it was."""
    # A linear layer computes the same in evaluation, but one of bitsandbytes would repack its weights there, with loss.
    modules = [module for module in model.get_decoder().modules() if not isinstance(module, nn.Linear)]
    trained = [module for module in modules if module.training]
    try:
        for module in trained:
            module.training = False
        return watched_forward(model, model, arguments)[1].hidden
    finally:
        for module in trained:
            module.training = True


# Inside the output head


def chunked_cross_entropy_sum(
    head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    weights: Tensor,
    chunk: int = 1024,
    finish: Callable[[Tensor], Tensor] | None = None,
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
        finish (`Callable`, *optional*): Change that the model makes to the head's logits, such as a soft cap.

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

    For a plain linear head it is one dot product per token, `<seen_i - unseen_i, W[labels_i]>`, without a vocabulary's
    worth of logits and without the rounding of half precision. Any other head computes its logits, chunk by chunk.

    Args:
        head (`nn.Module`): Maps hidden states to logits over V tokens.
        seen, unseen (`torch.Tensor` of shape `(N, H)`): States with and without the image.
        labels (`torch.LongTensor` of shape `(N,)`): The tokens that they should predict.
        chunk (`int`): Number of tokens whose logits are held at a time, where logits are needed.
        finish (`Callable`, *optional*): Change that the model makes to the head's logits.

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
