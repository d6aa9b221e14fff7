"""The papers' losses: pure functions of embeddings, one equation each.

Every embedding is L2-normalised, so dot products are cosines; every `logit_scale` is already exponentiated (about 100
for CLIP) and multiplies them. Negatives are an axis, `(batch, negatives, dim)`, valid where `negative_mask` is 1: a
masked negative takes part in no sum, no maximum and no gradient. No function here knows a model, a rank or a world
size: hand over the rows of all processes and the value is that of the global batch. CAL's losses, on tokens instead of
embeddings, come last; ComAlign's similarity stands beside its model, which scores with it.

Shapes: B batch, K negatives per caption, D embedding width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.chat import IGNORED_LABEL
from ..modeling.comalign.similarity import component_similarity

EPSILON = 1e-6  # keeps the loss of a batch without supervised tokens at 0

__all__ = [
    "clip_contrastive",
    "component_similarity",
    "cross_modal_rank",
    "image_grounded_contrast",
    "intra_modal_contrast",
    "self_distillation",
    "sigmoid_contrast",
    "similarity_contrast",
    "text_grounded_contrast",
    "visual_token_weights",
    "weighted_next_token_loss",
]


def clip_contrastive(
    image: Tensor,
    caption: Tensor,
    logit_scale: Tensor,
    negative: Tensor | None = None,
    negative_mask: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE in which an image also meets every negative caption of the batch.

    The paper of DeGLA prints only the K own negatives in the image-to-text denominator (Eq. 4). All released codes
    (NegCLIP, CE-CLIP, DeGLA) use all B*K of them, and so does this function. Without negatives it is CLIP's loss.

    Args:
        image (`torch.Tensor` of shape `(B, D)`): Image embeddings.
        caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the true captions.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the cosines, > 0.
        negative (`torch.Tensor` of shape `(B, K, D)`, *optional*): Embeddings of each caption's negatives, K >= 0.
        negative_mask (`torch.Tensor` of shape `(B, K)`, *optional*): 1 where the negative exists. Default: all exist.

    Returns:
        `torch.Tensor` of shape `()`: mean of both directions in nats, >= 0.

    Raises:
        ValueError: If shapes disagree.

    Reference:
        NegCLIP, https://huggingface.co/papers/2210.01936; DeGLA, Eq. 4 and 5, https://huggingface.co/papers/2504.16801.
    """
    _check_shapes(image, caption, negative, negative_mask)
    logits = logit_scale * (image @ caption.T)  # (B, B)
    target = torch.arange(len(image), device=image.device)
    image_logits = logits
    if negative is not None:
        negative_logits = logit_scale * (image @ negative.flatten(0, 1).T)  # (B, B*K)
        if negative_mask is not None:
            negative_logits = _drop(negative_logits, negative_mask.flatten())
        image_logits = torch.cat([logits, negative_logits], dim=1)
    return (F.cross_entropy(image_logits, target) + F.cross_entropy(logits.T, target)) / 2


def sigmoid_contrast(
    image: Tensor,
    text: Tensor,
    positive: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    ignore: Tensor | None = None,
) -> Tensor:
    """Ask of every image-text pair on its own whether both belong together: SigLIP's loss.

    With z = 1 for a positive pair and -1 for any other, the value is the sum over pairs of
    -log sigmoid(z * (logit_scale * cosine + logit_bias)), divided by the number of texts N. A text may be positive for
    several images, or for no image: that is a hard negative. With one text per image (N = B, diagonal `positive`), this
    is the loss of the paper and of `SiglipModel(..., return_loss=True)`. Some codes divide by all B*N pairs instead,
    which is B times less.

    N counts every row of `text`, also a text whose pairs are all ignored. Ignoring a pair removes its summand and
    leaves the weight of the others as it was.

    Args:
        image (`torch.Tensor` of shape `(B, D)`): Image embeddings.
        text (`torch.Tensor` of shape `(N, D)`): Text embeddings in any order, N >= 0.
        positive (`torch.BoolTensor` of shape `(B, N)`): Pairs that belong together.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the cosines, > 0.
        logit_bias (`torch.Tensor` of shape `()` or `(1,)`): Added to the scaled cosines; SigLIP starts at -10.
        ignore (`torch.Tensor` of shape `(B, N)`, *optional*): 1 where a pair takes part in neither the sum nor the
            gradient, whether it is positive or not. Default: every pair takes part.

    Returns:
        `torch.Tensor` of shape `()`: sum over pairs / N in nats, >= 0; it grows with B. 0 without texts.

    Raises:
        ValueError: If shapes disagree, or `positive` is not boolean (labels of 1 and -1 would all count as positive).

    Reference:
        SigLIP, Algorithm 1, https://huggingface.co/papers/2303.15343.
    """
    _check_pairs(image, text, positive, ignore)
    logits = logit_scale * (image @ text.T) + logit_bias  # (B, N)
    losses = -F.logsigmoid(torch.where(positive, logits, -logits))
    if ignore is not None:
        losses = losses.masked_fill(ignore.bool(), 0.0)
    return losses.sum() / max(len(text), 1)


def image_grounded_contrast(
    image: Tensor, caption: Tensor, negative: Tensor, logit_scale: Tensor, negative_mask: Tensor | None = None
) -> Tensor:
    """Contrast each image with its own caption against its own negatives only.

    A row never sees another row's negatives, so the value does not depend on batch order or the number of processes.

    Args:
        image (`torch.Tensor` of shape `(B, D)`): Image embeddings.
        caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the true captions.
        negative (`torch.Tensor` of shape `(B, K, D)`): Embeddings of each caption's negatives, K >= 0.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the cosines, > 0.
        negative_mask (`torch.Tensor` of shape `(B, K)`, *optional*): 1 where the negative exists. A row without any
            contributes exactly 0.

    Returns:
        `torch.Tensor` of shape `()`: mean cross-entropy over the batch in nats, >= 0; log(1 + K) for equal embeddings.

    Raises:
        ValueError: If shapes disagree.

    Reference:
        DeGLA, Eq. 8, https://huggingface.co/papers/2504.16801 (its temperature is 1 / logit_scale).
    """
    _check_shapes(image, caption, negative, negative_mask)
    return _own_contrast(logit_scale * _dot(image, caption), logit_scale * _own_dots(image, negative), negative_mask)


def text_grounded_contrast(
    caption: Tensor,
    teacher_caption: Tensor,
    negative: Tensor,
    scale: float = 10.0,
    negative_mask: Tensor | None = None,
    negatives: Literal["own", "released"] = "own",
) -> Tensor:
    """Contrast each caption with the teacher's view of it against its own negatives.

    Args:
        caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the true captions by the student.
        teacher_caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the same captions by the teacher, no gradient.
        negative (`torch.Tensor` of shape `(B, K, D)`): Embeddings of each caption's negatives by the student, K >= 0.
        scale (`float`): Multiplier of the cosines, > 0, constant. The paper names no value; the released code has 10.
        negative_mask (`torch.Tensor` of shape `(B, K)`, *optional*): 1 where the negative exists.
        negatives (`str`): `"own"`, the paper's equation, or `"released"`: the published code reads the sample-major
            negatives as if they were type-major, so that row i meets the flat columns i, i+B, i+2B, ..., nearly all of
            them negatives of other rows.

    Returns:
        `torch.Tensor` of shape `()`: mean cross-entropy over the batch in nats, >= 0; log(1 + K) for equal embeddings.

    Raises:
        ValueError: If shapes disagree or `negatives` is unknown.

    Reference:
        DeGLA, Eq. 9, https://huggingface.co/papers/2504.16801.
    """
    _check_choice("negatives", negatives, ("own", "released"))
    _check_shapes(caption, teacher_caption, negative, negative_mask)
    if negatives == "released":
        negative = _read_as_type_major(negative)
        negative_mask = None if negative_mask is None else _read_as_type_major(negative_mask)
    return _own_contrast(scale * _dot(caption, teacher_caption), scale * _own_dots(caption, negative), negative_mask)


def self_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of squared differences between the student's and the teacher's embeddings.

    A sum, as in the paper, so it grows with the number of rows: its published weight 0.005 belongs to 256 images with
    one caption and four negatives each. It holds for images, captions and negatives alike: add the three.

    Args:
        student (`torch.Tensor` of shape `(..., D)`): Embeddings by the student.
        teacher (`torch.Tensor` of the same shape): Embeddings by the teacher, no gradient.

    Returns:
        `torch.Tensor` of shape `()`: between 0 and 4 a row.

    Raises:
        ValueError: If shapes disagree.

    Reference:
        DeGLA, Eq. 7, https://huggingface.co/papers/2504.16801.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same shape")
    return (student - teacher).square().sum()


def intra_modal_contrast(
    image: Tensor,
    caption: Tensor,
    negative: Tensor,
    logit_scale: Tensor,
    negative_mask: Tensor | None = None,
    negatives: Literal["batch", "own", "head"] = "batch",
) -> Tensor:
    """Push a caption away from edited captions inside the text space; its image is the positive.

    Args:
        image (`torch.Tensor` of shape `(B, D)`): Image embeddings.
        caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the true captions.
        negative (`torch.Tensor` of shape `(B, K, D)`): Embeddings of each caption's negatives, K >= 0.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the cosines, > 0.
        negative_mask (`torch.Tensor` of shape `(B, K)`, *optional*): 1 where the negative exists.
        negatives (`str`): Which negatives a caption meets: `"batch"`, all B*K of the batch; `"own"`, its own K;
            `"head"`, the last released form, which has no positive at all: the caption is drawn to the first negative
            of the first sample, and validity is ignored. Only for comparison with published code; it needs K >= 1.

    Returns:
        `torch.Tensor` of shape `()`: mean cross-entropy over the batch in nats, >= 0.

    Raises:
        ValueError: If shapes disagree or `negatives` is unknown.

    Reference:
        CE-CLIP, https://huggingface.co/papers/2306.08832; the default is the released form of 2024-02 with masking.
    """
    _check_choice("negatives", negatives, ("batch", "own", "head"))
    _check_shapes(image, caption, negative, negative_mask)
    positive = logit_scale * _dot(image, caption)  # (B,)
    if negatives == "own":
        return _own_contrast(positive, logit_scale * _own_dots(caption, negative), negative_mask)
    scores = logit_scale * (caption @ negative.flatten(0, 1).T)  # (B, B*K)
    if negatives == "head":
        if negative.shape[1] == 0:
            raise ValueError('negatives="head" has a negative as its target and needs at least one a caption, got 0')
        return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long))
    return _own_contrast(positive, scores, None if negative_mask is None else negative_mask.flatten())


def cross_modal_rank(
    image: Tensor,
    caption: Tensor,
    negative: Tensor,
    logit_scale: Tensor,
    threshold: Tensor | float,
    negative_mask: Tensor | None = None,
    rule: Literal["mean", "max", "fixed"] = "mean",
    released: bool = False,
) -> tuple[Tensor, Tensor]:
    """Ask the true caption to beat each negative by a margin that follows the gap of the last batch.

    Args:
        image (`torch.Tensor` of shape `(B, D)`): Image embeddings.
        caption (`torch.Tensor` of shape `(B, D)`): Embeddings of the true captions.
        negative (`torch.Tensor` of shape `(B, K, D)`): Embeddings of each caption's negatives, K >= 0.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the cosines, > 0.
        threshold (`torch.Tensor` of shape `(K,)` or `()`, or `float`): Margin of each kind of negative, in logits.
        negative_mask (`torch.Tensor` of shape `(B, K)`, *optional*): 1 where the negative exists.
        rule (`str`): Next threshold of a kind: `"mean"` of its gaps, a fifth of their `"max"`, or `"fixed"`.
        released (`bool`): Take the next threshold as the published code does: validity is read from non-zero scores,
            the mean of the true scores runs over all rows, an invalid gap counts as 0 in the maximum, and a kind
            without any valid negative becomes NaN.

    Returns:
        `tuple`: the loss (sum of the valid hinges / (B*K), in logits, >= 0; invalid cells count in the divisor, as
        released) and the next threshold of shape `(K,)`, detached and not yet bounded. A kind without any valid
        negative keeps its threshold.

    Raises:
        ValueError: If shapes disagree or `rule` is unknown.

    Reference:
        CE-CLIP, https://huggingface.co/papers/2306.08832.
    """
    _check_choice("rule", rule, ("mean", "max", "fixed"))
    _check_shapes(image, caption, negative, negative_mask)
    kinds = negative.shape[1]
    threshold = torch.as_tensor(threshold, dtype=image.dtype, device=image.device)
    if threshold.dim() > 1 or threshold.numel() not in (1, kinds):
        raise ValueError(
            f"threshold must be one number or one a negative ({kinds}), got shape {tuple(threshold.shape)}"
        )
    threshold = threshold.expand(kinds)
    valid = _all_valid(negative) if negative_mask is None else negative_mask.bool()

    true_score = logit_scale * _dot(image, caption)  # (B,)
    negative_score = logit_scale * _own_dots(image, negative)  # (B, K)
    gap = true_score[:, None] - negative_score
    hinge = F.relu(threshold - gap).masked_fill(~valid, 0.0)
    loss = hinge.sum() / max(hinge.numel(), 1)

    gap = gap.detach()
    if rule == "fixed":
        return loss, threshold
    if released:
        return loss, _released_threshold(true_score.detach(), negative_score.detach(), valid, rule)
    if rule == "mean":
        following = gap.masked_fill(~valid, 0.0).sum(0) / valid.sum(0)
    else:
        following = gap.masked_fill(~valid, -torch.inf).amax(0) / 5
    return loss, torch.where(valid.any(0), following, threshold)


def _released_threshold(true_score: Tensor, negative_score: Tensor, valid: Tensor, rule: str) -> Tensor:
    """The next threshold as the published CE-CLIP computes it, its slips included."""
    negative_score = negative_score * valid
    if rule == "max":
        return ((true_score[:, None] - negative_score) * valid).amax(0) / 5
    return true_score.mean() - negative_score.sum(0) / (negative_score != 0).sum(0)


def _own_contrast(positive: Tensor, negative: Tensor, negative_mask: Tensor | None) -> Tensor:
    """Mean over rows of the cross-entropy of `positive (B,)` against `negative (B, N)` logits."""
    if negative_mask is not None:
        negative = _drop(negative, negative_mask)
    logits = torch.cat([positive[:, None], negative], dim=1)  # (B, 1+N)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Row-wise dot products: `(B, D), (B, D) -> (B,)`."""
    return (left * right).sum(-1)


def _own_dots(anchor: Tensor, negative: Tensor) -> Tensor:
    """Each row's dot products with its own negatives: `(B, D), (B, K, D) -> (B, K)`."""
    return torch.einsum("bd,bkd->bk", anchor, negative)


def similarity_contrast(
    image_to_text: Tensor, text_to_image: Tensor, logit_scale: Tensor, defined: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE over similarities that need not be cosines, nor alike in both directions.

    A pair that is not defined takes part in no softmax; a row whose own pair is not defined leaves the mean. The
    objective of ComAlign is not published: this one, of a role or of the global embeddings, is ours.

    Args:
        image_to_text (`torch.Tensor` of shape `(B, B + N)`): Of each image with the B captions in the order of the
            images, then with N further false ones.
        text_to_image (`torch.Tensor` of shape `(B + N, B)`): Of each caption with each image; false ones are not asked.
        logit_scale (`torch.Tensor` of shape `()` or `(1,)`): Multiplier of the similarities, > 0.
        defined (`torch.BoolTensor` of shape `(B, B + N)`, *optional*): Pairs that have a similarity. Default: all.

    Returns:
        `torch.Tensor` of shape `()`: mean of both directions in nats, >= 0; 0 without a defined own pair.

    Raises:
        ValueError: If shapes disagree.
    """
    batch, texts = image_to_text.shape
    defined = torch.ones_like(image_to_text).bool() if defined is None else defined.bool()
    if texts < batch or text_to_image.shape != (texts, batch) or defined.shape != (batch, texts):
        raise ValueError(
            "image_to_text must be (B, B + N), text_to_image (B + N, B) and defined (B, B + N), "
            f"got {tuple(image_to_text.shape)}, {tuple(text_to_image.shape)} and {tuple(defined.shape)}"
        )
    own = defined.diagonal()
    target = torch.arange(batch, device=own.device)[own]
    directions = ((image_to_text, defined), (text_to_image[:batch], defined[:, :batch].T))
    losses = [
        F.cross_entropy(_drop(logit_scale * similarity, pairs)[own], target, reduction="sum")
        for similarity, pairs in directions
    ]
    return sum(losses) / (2 * own.sum().clamp_min(1))


def _drop(logits: Tensor, mask: Tensor) -> Tensor:
    """Take the logits with mask 0 out of every softmax."""
    return logits.masked_fill(~mask.bool(), -torch.inf)


def _read_as_type_major(negative: Tensor) -> Tensor:
    """Regroup sample-major `(B, K, ...)` the way a reader does who takes the flat rows for type-major."""
    batch, kinds = negative.shape[:2]
    return negative.reshape(kinds, batch, *negative.shape[2:]).transpose(0, 1)


def _all_valid(negative: Tensor) -> Tensor:
    """A mask `(B, K)` in which every negative exists."""
    return torch.ones(negative.shape[:2], dtype=torch.bool, device=negative.device)


def _check_choice(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Refuse an option that no equation knows."""
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")


def _check_shapes(anchor: Tensor, positive: Tensor, negative: Tensor | None, mask: Tensor | None) -> None:
    """Refuse rows that do not belong together; broadcasting would turn them into a wrong number."""
    if anchor.dim() != 2 or anchor.shape != positive.shape:
        raise ValueError(f"expected two (batch, dim) tensors alike, got {tuple(anchor.shape)}, {tuple(positive.shape)}")
    batch, width = anchor.shape
    if negative is not None and (negative.dim() != 3 or (negative.shape[0], negative.shape[2]) != (batch, width)):
        raise ValueError(f"negative must be (batch={batch}, negatives, dim={width}), got {tuple(negative.shape)}")
    if mask is not None and (negative is None or mask.shape != negative.shape[:2]):
        wanted = "absent, as there are no negatives" if negative is None else tuple(negative.shape[:2])
        raise ValueError(f"negative_mask must be {wanted}, got {tuple(mask.shape)}")


def _check_pairs(image: Tensor, text: Tensor, positive: Tensor, ignore: Tensor | None) -> None:
    """Refuse masks that do not name the pairs of these images and texts."""
    if image.dim() != 2 or text.dim() != 2 or image.shape[1] != text.shape[1]:
        raise ValueError(
            f"image (B, D) and text (N, D) must have the same width, got {tuple(image.shape)} and {tuple(text.shape)}"
        )
    pairs = (len(image), len(text))
    for name, mask in (("positive", positive), ("ignore", ignore)):
        if mask is not None and mask.shape != pairs:
            raise ValueError(f"{name} must be (images, texts) = {pairs}, got {tuple(mask.shape)}")
    if positive.dtype != torch.bool:
        raise ValueError(f"positive must be boolean, true where image and text belong together, got {positive.dtype}")


# CAL: losses of tokens. Position `j` of a row predicts token `j + 1`, so weights lie on `T = L - 1` positions.


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
    losses = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), target.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
    )
    weights = weights.flatten() * (target.flatten() != IGNORED_LABEL)
    return (weights * losses).sum() / (weights.sum() + EPSILON)
