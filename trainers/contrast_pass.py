"""CAL's contrast pass: the language model's states at the same tokens, had it not seen the image.

The image tokens are dropped and every other token keeps its position, so the pass costs what its text costs. That is
exact where each token reaches all earlier ones by attention alone; where it does not, image tokens stay in place behind
the attention mask instead ("masked"), as in the published code.

Shapes: B rows, L tokens a row, H hidden width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.conversation_encoding import image_token_ids

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")  # what a batch holds one value a token of, where it does
FULL_ATTENTION = "full_attention"
WINDOWED_ATTENTION = ("sliding_attention", "chunked_attention")


@dataclass
class LanguageModelCall:
    """What went into the language model and what came out, as seen from outside."""

    positions: Tensor | None = None  # as the model made them: (B, L), (1, L), (3 or 4, B, L), or none for 0, 1, 2, ...
    embeddings: Tensor | None = None  # (B, L, H), image features in place
    hidden: Tensor | None = None  # (B, L, H)


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
    """Run a model without a cache and with one row of logits; return its output and what its language model did.

    Args:
        model (`nn.Module`): The model as it is trained, in whatever wraps it.
        plain (`PreTrainedModel`): The same, unwrapped.
        inputs (`dict`): Arguments of its forward, without labels.
    """
    with watched(plain) as call:
        return model(**inputs, logits_to_keep=1, use_cache=False), call


def image_tokens(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Where image and video features stand: a mask of the shape of `input_ids`."""
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

    No vision tower runs, no logits are computed but one a row, dropout is off and no random number is consumed. Rows
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
    """The kept tokens' positions, in whatever shape the model counts them."""
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
