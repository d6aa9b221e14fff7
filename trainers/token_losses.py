"""CAL's token weights and the weighted loss: pure functions of logits and their differences, one equation each.

Position `j` of a row predicts token `j + 1`; whatever is weighted lies on the `T = L - 1` positions that predict one.

Shapes: B rows, L tokens a row, T = L - 1 predictions, V vocabulary.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label of a token that is not supervised
EPSILON = 1e-6  # keeps the loss of a batch without supervised tokens at 0


def visual_token_weights(
    delta: Tensor,
    supervised: Tensor,
    clamp: tuple[float, float] = (1.0, 5.0),
    window: int = 3,
    pooling: Literal["supervised", "row", "released"] = "supervised",
) -> Tensor:
    """Turn each label's gain in logit through the image into its weight: clamped, then smoothed over its neighbours.

    Args:
        delta (`torch.Tensor` of shape `(B, T)`): Logit of the next token with the image minus that without it.
        supervised (`torch.Tensor` of shape `(B, T)`): 1 where the next token is supervised.
        clamp (pair of `float`): Least and largest weight before smoothing, 0 < least <= largest.
        window (`int`): Width of the mean, odd, >= 1; it gets narrower at the ends.
        pooling (`str`): What the window sees: `"supervised"`, the supervised positions of the row; `"row"`, all
            positions of the row; `"released"`, all positions of the batch as one long row, as the published code does.

    Returns:
        `torch.Tensor` of shape `(B, T)`: weights within `clamp`, without gradient; 0 at positions that are not
        supervised under `"supervised"`, of no meaning there under the other two.

    Raises:
        ValueError: If shapes disagree or an option is out of its range.

    Reference:
        CAL, Eq. 3 and 4, https://huggingface.co/papers/2405.17871.
    """
    least, largest = clamp
    if delta.dim() != 2 or delta.shape != supervised.shape:
        raise ValueError(
            f"delta and supervised must be (rows, positions) alike, got {tuple(delta.shape)}, {tuple(supervised.shape)}"
        )
    if not 0 < least <= largest:
        raise ValueError(f"clamp must be 0 < least <= largest, got {clamp}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, got {window}")
    if pooling not in ("supervised", "row", "released"):
        raise ValueError(f"pooling must be one of 'supervised', 'row', 'released', got {pooling!r}")
    weights = delta.detach().clamp(least, largest)
    seen = supervised.to(weights.dtype) if pooling == "supervised" else torch.ones_like(weights)
    if pooling == "released":
        weights, seen = weights.reshape(1, -1), seen.reshape(1, -1)
    # The mean over all of the window is the same multiple of both sums, so padding with zeros cancels.
    total, count = (F.avg_pool1d(value, window, 1, window // 2) for value in (weights * seen, seen))
    smooth = torch.where(seen > 0, total / count.clamp_min(1 / (2 * window)), 0.0)
    return smooth.reshape(delta.shape)


def weighted_next_token_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the next tokens, averaged with weights over all supervised tokens of the batch.

    The plain form, which holds all logits at once; see `chunked_cross_entropy_sum` for the one that trains.

    Args:
        logits (`torch.Tensor` of shape `(B, L, V)`): Of every position, the last one unused.
        labels (`torch.LongTensor` of shape `(B, L)`): Token ids, unshifted; -100 where not supervised.
        weights (`torch.Tensor` of shape `(B, L - 1)`): Weight of the prediction of token `j + 1` at position `j`.

    Returns:
        `torch.Tensor` of shape `()`: in nats, >= 0; 0 without a supervised token.

    Raises:
        ValueError: If shapes disagree.

    Reference:
        CAL, Eq. 5, https://huggingface.co/papers/2405.17871; one normaliser for the batch instead of one a sample.
    """
    if logits.shape[:2] != labels.shape or weights.shape != labels[:, 1:].shape:
        raise ValueError(
            "logits (B, L, V), labels (B, L) and weights (B, L - 1) disagree: "
            f"{tuple(logits.shape)}, {tuple(labels.shape)}, {tuple(weights.shape)}"
        )
    target = labels[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none")
    weights = weights.flatten() * (target.flatten() != IGNORED)
    return (weights * losses).sum() / (weights.sum() + EPSILON)
