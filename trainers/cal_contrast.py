"""CAL's contrast pass: the language model's states at the same tokens, had it not seen the image.

The image tokens are dropped and every other token keeps its position, so the pass costs what its text costs. That is
exact where each token reaches all earlier ones. Where attention reaches back only so far, image tokens stay in place
behind the attention mask instead ("masked"), as in the authors' code. A layer that carries a state along the row has no
use for a mask: there only a dropped token is absent.

Shapes: B rows, L tokens per row, H hidden width.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..data.chat.encoder import image_token_ids
from .cal_head import UNCHANGED, Finish, HeadCall, find_finish, without_dropout

logger = logging.getLogger(__name__)

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")  # inputs with one value per token, in the models that have them
FULL_ATTENTION = "full_attention"
WINDOWED_ATTENTION = {"sliding_attention", "chunked_attention", "hybrid_sliding"}
# Layers with a state that every token changes, masked or not.
STATEFUL = {"linear_attention", "conv", "hybrid", "hybrid_sliding"}
PER_TOKEN = {"moe", "dense", "sparse"}  # no token sees another
# Arguments that come with several samples in one row.
PACKING = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx")


@dataclass
class LanguageModelCall:
    """Inputs and outputs of one call of the language model, recorded from outside."""

    positions: Tensor | None = None  # as the model made them: (B, L), (1, L), (3 or 4, B, L), or None for 0, 1, 2, ...
    finish: Finish = UNCHANGED  # how the model makes its logits of those of its head
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

    with _hooked(decoder.register_forward_pre_hook(before, with_kwargs=True), decoder.register_forward_hook(after)):
        yield call


@contextmanager
def _hooked(*hooks: RemovableHandle) -> Iterator[None]:
    """Remove hooks afterwards."""
    try:
        yield
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

    Raises:
        ValueError: If the model's logits are not those of its head, finished as its configuration says.
    """
    head_calls: list[tuple[Tensor, Tensor]] = []

    def after(module: nn.Module, args: tuple, output: Tensor) -> None:
        head_calls.append((args[0][:, -1].detach(), output[:, -1].detach().clone()))  # some models change it in place

    with watched(plain) as call, _hooked(plain.get_output_embeddings().register_forward_hook(after)):
        outputs = model(**inputs, logits_to_keep=1, use_cache=False)
    if not head_calls:
        raise ValueError(f"CAL cannot train {type(plain).__name__}: it makes logits without calling its output head")
    hidden, logits = call.hidden[:, -1].detach(), outputs.logits[:, -1].detach()
    call.finish = find_finish(plain, HeadCall(hidden, *head_calls[-1], logits))
    return outputs, call


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
    window, kinds = _window(model), _layer_kinds(model)
    if kinds & WINDOWED_ATTENTION and (window is None or length > window):
        return f"its attention reaches {window} tokens back and rows have {length}"
    return _unknown_kinds(kinds)


def why_unmaskable(model: PreTrainedModel) -> str | None:
    """Say why masked image tokens would still change the states of later tokens; None where they do not."""
    kinds = _layer_kinds(model)
    if stateful := kinds & STATEFUL:
        return f"its layers keep a state that masked tokens change too ({', '.join(sorted(stateful))})"
    return _unknown_kinds(kinds)


def _window(model: PreTrainedModel) -> int | None:
    """How many tokens back a layer with a window reaches."""
    config = model.config.get_text_config()
    return getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)


def _layer_kinds(model: PreTrainedModel) -> set[str]:
    """The kinds of layers of a language model, as its configuration names them."""
    only = "sliding_attention" if _window(model) else FULL_ATTENTION
    return set(getattr(model.config.get_text_config(), "layer_types", None) or [only])


def _unknown_kinds(kinds: set[str]) -> str | None:
    """Name the layers of which nothing is known."""
    unknown = kinds - {FULL_ATTENTION} - WINDOWED_ATTENTION - STATEFUL - PER_TOKEN
    return f"it has layers of a kind that CAL does not know ({', '.join(sorted(unknown))})" if unknown else None


def contrast_mode(
    model: PreTrainedModel, length: int, asked: Literal["auto", "dropped", "masked"] = "auto"
) -> Literal["dropped", "masked"]:
    """Choose how to take the image away from rows of `length` tokens: as asked, or by dropping where that is exact.

    Raises:
        ValueError: If the way that is asked for is not exact, or neither is, or the image reaches the language model in
            another way.
    """
    reasons: dict[Literal["dropped", "masked"], str | None] = {
        "dropped": why_inexact(model, length),
        "masked": why_unmaskable(model),
    }
    if asked == "auto":
        asked = "masked" if reasons["dropped"] else "dropped"
    if (reason := reasons[asked]) is None:
        return asked
    exact = [mode for mode, other in reasons.items() if other is None]
    raise ValueError(
        f"contrast={asked!r} is not exact for {type(model).__name__}: {reason}; "
        + (f"use 'auto' or {exact[0]!r}" if exact else "train it with --cal false")
    )


def refuse_packed(inputs: dict[str, Tensor]) -> None:
    """Refuse rows that hold several samples, which only the main pass would keep apart.

    Raises:
        ValueError: If the batch has an argument of packing, an attention mask that is more than 1 on tokens and 0 on
            padding, or positions that start again within a row.
    """
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    packed = [name for name in PACKING if name in inputs]
    if mask is not None and (mask.ndim > 2 or bool((mask > 1).any())):
        packed.append("attention_mask")
    if positions is not None and _restart(positions, mask):
        packed.append("position_ids")
    if packed:
        raise ValueError(
            f"rows hold several samples ({', '.join(packed)}): CAL's pass without the image would let each see those "
            "before it; give one sample per row, or train with --cal false"
        )


def _restart(positions: Tensor, mask: Tensor | None) -> bool:
    """Whether positions go back to an earlier one between two visible tokens; of several axes the first counts."""
    first = positions.reshape(-1, *positions.shape[-2:])[0]  # (B, L)
    back = first[:, 1:] < first[:, :-1]
    if mask is not None and mask.ndim == 2:
        back = back & mask[:, 1:].bool() & mask[:, :-1].bool()
    return bool(back.any())


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

    Raises:
        ValueError: If a row holds several samples.
    """
    refuse_packed(inputs)
    if (drop := _largest_dropout(model)) > 0:
        _warn_of_dropout(type(model).__name__, drop)
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
    with without_dropout(model.get_decoder()), watched(model) as call:
        model(**arguments, logits_to_keep=1, use_cache=False)
    return call.hidden


def _largest_dropout(model: PreTrainedModel) -> float:
    """The largest rate at which the language model drops values in training, now; 0 in evaluation."""
    decoder = model.get_decoder()
    rates = [module.p for module in decoder.modules() if isinstance(module, nn.Dropout) and module.training]
    attention = getattr(model.config.get_text_config(), "attention_dropout", 0.0) if decoder.training else 0.0
    return max([attention or 0.0, *rates])


@cache
def _warn_of_dropout(name: str, rate: float) -> None:
    """Warn once: the main pass drops values out, the pass without the image does not."""
    logger.warning(
        "the language model of %s has dropout of up to %s: CAL's deltas then hold its noise beside what the image adds",
        name,
        rate,
    )
