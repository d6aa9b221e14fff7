"""Encoding captions with CLIP's text tower without padding them to the full context length.

CLIP's text tower is causal and reads its answer at one token, the end of the caption, so nothing after that token can
change the result. Captions are therefore cut there, sorted by length and encoded in a few groups of similar length;
the cut also makes the padding mask superfluous, which leaves the attention kernel its plain causal form.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from transformers import CLIPModel

# Cost of one more call of the text tower, in tokens that could have been encoded instead (forward and backward).
CALL_OVERHEAD_CPU = 32  # measured, ViT-B/32's text tower on one core: about 25, at most 48
CALL_OVERHEAD_ACCELERATOR = 8192  # calculated, not measured: 4 ms of kernel launches at 2 million tokens per second

# Padding per caption left by the best G groups is close to PADDING_SPREAD / G**2 tokens: on 1,280 SugarCrepe captions
# (mean 14.9, longest 39 of a batch) 24.0, 5.9, 3.0, 2.0 for G = 1, 2, 3, 4.
PADDING_SPREAD = 24

# Group boundaries are sought among this many equidistant ranks; twice as many save at most 0.3 tokens per caption.
BOUNDARY_CANDIDATES = 32


def caption_lengths(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Count the tokens up to and including the one at which CLIP reads a caption's embedding.

    Args:
        input_ids (`torch.LongTensor` of shape `(num_captions, tokens)`): Token ids, padded at the end.
        eos_token_id (`int`): The text tower's. 2, the value in old configurations, selects the largest id of the row;
            any other value selects its first occurrence, or position 0 in a row without it.

    Returns:
        `torch.LongTensor` of shape `(num_captions,)`: lengths in [1, tokens], BOS and EOS included.
    """
    is_last = input_ids if eos_token_id == 2 else (input_ids == eos_token_id).int()
    return is_last.argmax(dim=-1) + 1


def number_of_groups(num_captions: int, overhead_tokens: int) -> int:
    """Choose the number of groups into which to split a batch of captions.

    The answer depends on the number of captions alone, never on their lengths: processes that shard a model have to
    call its layers equally often.

    Args:
        num_captions (`int`): Captions in the batch, > 0.
        overhead_tokens (`int`): Cost of one more call of the text tower, in tokens, > 0.

    Returns:
        `int`: the number G in [1, num_captions] nearest to the minimum of the total cost in tokens,
        `num_captions * PADDING_SPREAD / G**2 + overhead_tokens * G`.
    """
    best = (2 * PADDING_SPREAD * num_captions / overhead_tokens) ** (1 / 3)
    return max(1, min(round(best), num_captions, BOUNDARY_CANDIDATES))


def length_groups(lengths: list[int], num_groups: int) -> list[list[int]]:
    """Split captions into groups of similar length, so that padding each group to its longest costs least.

    Args:
        lengths (`list[int]`): Length of each caption in tokens.
        num_groups (`int`): Groups to make, in [1, min(len(lengths), BOUNDARY_CANDIDATES)].

    Returns:
        `list[list[int]]`: exactly `num_groups` non-empty lists of caption indices, shorter captions first; together
        they hold every index once.

    Raises:
        ValueError: If `num_groups` is outside its range.
    """
    most = min(len(lengths), BOUNDARY_CANDIDATES)
    if not 1 <= num_groups <= most:
        raise ValueError(f"num_groups must be between 1 and {most} for {len(lengths)} captions, got {num_groups}")
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ends = [len(order) * step // most for step in range(most + 1)]

    # plans[j]: the least number of tokens, and the boundaries, of the first ends[j] captions in the groups made so far
    plans = {0: (0, [0])}
    for _ in range(num_groups):
        plans = {
            j: min(
                (tokens + (ends[j] - ends[i]) * lengths[order[ends[j] - 1]], [*boundaries, ends[j]])
                for i, (tokens, boundaries) in plans.items()
                if i < j
            )
            for j in range(min(plans) + 1, most + 1)
        }
    _, boundaries = plans[most]
    return [order[start:end] for start, end in pairwise(boundaries)]


def encode_in_groups(
    encode: Callable[[Tensor], Tensor], input_ids: Tensor, lengths: list[int], num_groups: int
) -> Tensor:
    """Encode captions group by group, each group cut to its longest caption, and return them in their given order.

    Args:
        encode (`Callable`): Maps token ids `(captions, tokens)` to features `(captions, dim)`; called once per group.
        input_ids (`torch.LongTensor` of shape `(num_captions, tokens)`): Token ids, padded at the end.
        lengths (`list[int]`): How many tokens of each row matter.
        num_groups (`int`): See [`length_groups`].

    Returns:
        `torch.Tensor` of shape `(num_captions, dim)`.
    """
    groups = length_groups(lengths, num_groups)
    order = torch.tensor([index for group in groups for index in group], device=input_ids.device)
    features = [
        encode(input_ids[rows, : max(lengths[index] for index in group)])
        for group, rows in zip(groups, order.split([len(group) for group in groups]), strict=True)
    ]
    features = torch.cat(features)
    return features[order.argsort().to(features.device)]


def encode_captions(
    model: CLIPModel, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
) -> Tensor:
    """Encode captions as `model.get_text_features` does, without spending anything on padding.

    The plain padded forward is taken where a cut would not be exact: with `position_ids`, and with an attention mask
    that hides a token of a caption (left padding, holes) or is not of the shape of `input_ids`. Where processes share
    the shards of one model, all of them have to take the same path.

    Args:
        model (`CLIPModel`): Any CLIP.
        input_ids (`torch.LongTensor` of shape `(num_captions, tokens)`): Token ids, padded at the end.
        attention_mask (`torch.Tensor` of shape `(num_captions, tokens)`, *optional*): 1 for tokens that may be seen.
        position_ids (`torch.LongTensor`, *optional*): Positions other than 0, 1, 2, ...

    Returns:
        `torch.Tensor` of shape `(num_captions, projection_dim)`: projected features, not normalised.

    Raises:
        ValueError: If `input_ids` is not two-dimensional.
    """
    if input_ids.ndim != 2:
        raise ValueError(f"input_ids must be of shape (captions, tokens), got {tuple(input_ids.shape)}")
    lengths = None if position_ids is not None else _exact_lengths(model, input_ids, attention_mask)
    if lengths is None:
        return model.get_text_features(input_ids, attention_mask, position_ids).pooler_output
    overhead = CALL_OVERHEAD_CPU if input_ids.device.type == "cpu" else CALL_OVERHEAD_ACCELERATOR
    num_groups = number_of_groups(len(lengths), overhead)
    return encode_in_groups(lambda ids: model.get_text_features(ids).pooler_output, input_ids, lengths, num_groups)


def _exact_lengths(model: CLIPModel, input_ids: Tensor, attention_mask: Tensor | None) -> list[int] | None:
    """Lengths at which captions may be cut, or None where the mask hides a token that matters."""
    lengths = caption_lengths(input_ids, model.text_model.eos_token_id)
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            return None
        visible_from_start = attention_mask.bool().int().cumprod(dim=-1).sum(dim=-1)
        lengths = lengths.where(visible_from_start >= lengths, 0)
    lengths = lengths.tolist()  # the only wait for the device: mask and lengths in one transfer
    return lengths if all(lengths) else None
