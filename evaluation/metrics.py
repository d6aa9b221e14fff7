"""Metrics: pure functions of score matrices, whose values are plain Python floats in [0, 1].

Every function takes numpy arrays, torch tensors or nested lists; half precision is widened first, which is exact. NaN
is refused: every comparison with it is false, so that a broken model would look like an ordinary one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import torch

RANK_BLOCK = 256  # images ranked together, so that ranking needs little memory beside the scores


def as_scores(values: "ArrayLike | torch.Tensor") -> np.ndarray:
    """Return scores as a numpy array of at least single precision.

    Args:
        values (array, tensor or nested list): Scores of any shape.

    Returns:
        `numpy.ndarray` of the same shape; float32 and float64 are kept, half precision becomes float32.

    Raises:
        ValueError: If a score is NaN.
    """
    import torch  # benchmarks and metrics load without it

    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.promote_types(values.dtype, torch.float32)).numpy()
    scores = np.asarray(values)
    if missing := int(np.isnan(scores).sum()):
        raise ValueError(f"{missing} of {scores.size} scores are NaN; scores must be numbers")
    return scores


def caption_choice(scores_true: ArrayLike, scores_false: ArrayLike) -> dict[str, float | int]:
    """Score the choice between a true and a false caption of the same image.

    Args:
        scores_true (array of shape `(items,)`): Score of each item's true caption.
        scores_false (array of shape `(items,)`): Score of its false caption; the highest one where there are several.

    Returns:
        `dict`: `strict`, the share of items whose true caption scores higher (a tie is a miss); `half_credit`, the same
        with every tie worth one half; `tie_rate`, the share of ties; `n`, the number of items.

    Raises:
        ValueError: If the shapes differ or there is no item.
    """
    true, false = as_scores(scores_true), as_scores(scores_false)
    if true.shape != false.shape or true.ndim != 1 or not true.size:
        raise ValueError(
            f"scores of shapes {true.shape} and {false.shape}; both must be (items,) with at least one item"
        )
    strict, tie_rate = float((true > false).mean()), float((true == false).mean())
    return {"strict": strict, "half_credit": strict + tie_rate / 2, "tie_rate": tie_rate, "n": len(true)}


def winoground_hits(scores: ArrayLike) -> dict[str, np.ndarray]:
    """Say which items of two captions and two images are matched right; see `winoground_scores`.

    Args:
        scores (array of shape `(items, 2, 2)`): `scores[n, caption, image]`.

    Returns:
        `dict[str, numpy.ndarray]`: `text`, `image` and `group`, each a boolean array of shape `(items,)`.

    Raises:
        ValueError: If the shape is another one or there is no item.
    """
    scores = as_scores(scores)
    if scores.shape[1:] != (2, 2) or not len(scores):
        raise ValueError(f"scores of shape {scores.shape}; must be (items, 2, 2) with at least one item")
    own_00, own_11 = scores[:, 0, 0], scores[:, 1, 1]
    caption_0_image_1, caption_1_image_0 = scores[:, 0, 1], scores[:, 1, 0]
    text = (own_00 > caption_1_image_0) & (own_11 > caption_0_image_1)
    image = (own_00 > caption_0_image_1) & (own_11 > caption_1_image_0)
    return {"text": text, "image": image, "group": text & image}


def winoground_scores(scores: ArrayLike) -> dict[str, float]:
    """Compute the text, image and group score of items of two captions and two images.

    Args:
        scores (array of shape `(items, 2, 2)`): `scores[n, caption, image]`; caption 0 belongs to image 0 and caption 1
            to image 1.

    Returns:
        `dict[str, float]`: `text`, the share of items in which each image prefers its own caption; `image`, the share
        in which each caption prefers its own image; `group`, the share in which both hold. All comparisons are strict.
        Chance is 1/4, 1/4 and 1/6.

    Raises:
        ValueError: If the shape is another one or there is no item.

    Reference:
        Winoground, https://huggingface.co/papers/2204.03162, section 3.
    """
    return {name: float(hits.mean()) for name, hits in winoground_hits(scores).items()}


def retrieval_ranks(similarity: ArrayLike, image_of_caption: ArrayLike) -> dict[str, np.ndarray]:
    """Rank the right answer of every query, in both directions.

    The rank of an answer is the number of wrong candidates with a greater score plus half the number of wrong
    candidates with an equal score. 0 is the best rank. The order of rows changes no rank, and a constant matrix ranks
    every answer in the middle.

    Args:
        similarity (array of shape `(images, captions)`): Score of every image with every caption.
        image_of_caption (sequence of `captions` integers): Row of the image that each caption describes. Every image
            needs at least one caption.

    Returns:
        `dict[str, numpy.ndarray]`: `image_to_text`, of shape `(images,)`, the rank of each image's best caption among
        the captions of other images; `text_to_image`, of shape `(captions,)`, the rank of each caption's image.

    Raises:
        ValueError: If the shapes disagree, an image has no caption, or the image of a caption is not a row.
    """
    similarity, images = as_scores(similarity), np.asarray(image_of_caption, dtype=np.int64)
    if similarity.ndim != 2 or images.shape != similarity.shape[1:]:
        raise ValueError(
            f"similarity of shape {similarity.shape} with image_of_caption of shape {images.shape}; "
            "must be (images, captions) and (captions,)"
        )
    described = np.unique(images)
    if not described.size or not np.array_equal(described, np.arange(len(similarity))):
        raise ValueError(
            f"image_of_caption has the values {described.tolist()[:20]}; must name each row of "
            f"0..{len(similarity) - 1} at least once, and no other"
        )
    own_image = similarity[images, np.arange(len(images))]  # (captions,)
    image_ranks, caption_ranks = [], np.zeros(len(images))
    for start in range(0, len(similarity), RANK_BLOCK):
        block = similarity[start : start + RANK_BLOCK]  # (images of the block, captions)
        own = images[None, :] == np.arange(start, start + len(block))[:, None]
        best_own = np.where(own, block, -np.inf).max(axis=1, keepdims=True)
        image_ranks.append(_rank(block, best_own, ~own, axis=1))
        caption_ranks += _rank(block, own_image, ~own, axis=0)
    return {"image_to_text": np.concatenate(image_ranks), "text_to_image": caption_ranks}


def recall_at_k(
    similarity: ArrayLike, image_of_caption: ArrayLike, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[int, float]]:
    """Compute retrieval recall at several depths, in both directions, over queries.

    A query is a hit at `k` if the rank of its answer is below `k`; `retrieval_ranks` states the tie rule. An image is a
    hit if any of its captions is.

    Example: two images with two captions each. Image 1 ranks its own caption 2 first; image 0 ranks caption 3, which is
    not its own, first. Captions 0 and 2 rank their images first; captions 1 and 3 do not.

    ```python
    >>> recall_at_k([[0.5, 0.2, 0.1, 0.9], [0.4, 0.3, 0.8, 0.7]], image_of_caption=[0, 0, 1, 1], ks=(1, 2))
    {'image_to_text': {1: 0.5, 2: 1.0}, 'text_to_image': {1: 0.5, 2: 1.0}}

    ```

    Args:
        similarity (array of shape `(images, captions)`): Score of every image with every caption.
        image_of_caption (sequence of `captions` integers): Row of the image that each caption describes.
        ks (sequence of `int`): Depths, >= 1.

    Returns:
        `dict[str, dict[int, float]]`: for `image_to_text` and `text_to_image`, the share of hits at each `k`.

    Raises:
        ValueError: If the shapes disagree, an image has no caption, or a depth is below 1.
    """
    if min(ks) < 1:
        raise ValueError(f"ks {list(ks)}; must be at least 1")
    ranks = retrieval_ranks(similarity, image_of_caption)
    return {direction: {k: float((rank < k).mean()) for k in ks} for direction, rank in ranks.items()}


def zero_shot_hits(similarity: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Say which images score strictly highest with their own class.

    Args:
        similarity (array of shape `(images, classes)`): Score of every image with every class.
        labels (sequence of `images` integers): Column of each image's class.

    Returns:
        `numpy.ndarray` of shape `(images,)`, boolean. A tie with another class is a miss.

    Raises:
        ValueError: If the shapes disagree, there is no image, or a label is not a column.
    """
    similarity, classes = as_scores(similarity), np.asarray(labels, dtype=np.int64)
    if similarity.ndim != 2 or classes.shape != similarity.shape[:1] or not classes.size:
        raise ValueError(
            f"similarity of shape {similarity.shape} with labels of shape {classes.shape}; "
            "must be (images, classes) and (images,) with at least one image"
        )
    if classes.min() < 0 or classes.max() >= similarity.shape[1]:
        raise ValueError(f"labels span {classes.min()}..{classes.max()}; must be in 0..{similarity.shape[1] - 1}")
    own = similarity[np.arange(len(classes)), classes][:, None]
    return (similarity >= own).sum(axis=1) == 1


def zero_shot_accuracy(similarity: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Compute zero-shot accuracy over images and over classes.

    Args:
        similarity (array of shape `(images, classes)`): Score of every image with every class.
        labels (sequence of `images` integers): Column of each image's class.

    Returns:
        `dict[str, float]`: `top1`, the share of images that score strictly highest with their own class;
        `mean_per_class`, the mean of this share over the classes that have images.

    Raises:
        ValueError: If the shapes disagree, there is no image, or a label is not a column.
    """
    hits = zero_shot_hits(similarity, labels)
    return {"top1": float(hits.mean()), "mean_per_class": mean_per_group(hits, labels)}


def mean_per_group(values: ArrayLike, groups: ArrayLike) -> float:
    """Average values within each group, then over groups ("macro"): groups count equally, whatever their sizes.

    Args:
        values (array of shape `(items,)`): Correctness or credit of each item.
        groups (sequence of `items` labels): Group of each item.

    Returns:
        `float`: the mean of the groups' means.
    """
    _, group_of_item = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(group_of_item, weights=np.asarray(values, dtype=np.float64))
    return float((sums / np.bincount(group_of_item)).mean())


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    shares: Mapping[Any, float] | None = None,
) -> tuple[float, float]:
    """Estimate a percentile bootstrap interval of a mean over items.

    Args:
        values (array of shape `(items,)`): Correctness (0 or 1) or credit of each item.
        groups (sequence of `items` labels, *optional*): Group of each item. Groups are resampled one by one, and the
            interval is that of `mean_per_group`. Default: the interval of the plain mean.
        clusters (sequence of `items` labels, *optional*): Cluster of each item. Items of a cluster, such as those of
            one image, are not independent and are resampled together. Default: every item is a cluster of its own.
        confidence (`float`): Share of resamples inside the interval, in (0, 1).
        resamples (`int`): Number of resamples.
        seed (`int`): Seed of the resampling; equal arguments give equal intervals.
        shares (mapping of group to `float`, *optional*): Weight of each group's mean. Default: equal weights.

    Returns:
        `tuple[float, float]`: lower and upper end of the interval.

    Raises:
        ValueError: If there is no item or the confidence is not in (0, 1).

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3; for clusters, Davison and Hinkley,
        Bootstrap Methods and their Application, 1997, section 3.8.
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.size or not 0 < confidence < 1:
        raise ValueError(
            f"{values.size} values at confidence {confidence}; needs at least one value, and a confidence in (0, 1)"
        )
    generator = np.random.default_rng(seed)
    group_of = np.zeros(len(values)) if groups is None else np.asarray(groups)
    cluster_of = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    names = np.unique(group_of)
    means = np.average(
        [_resampled_means(values[group_of == n], cluster_of[group_of == n], resamples, generator) for n in names],
        axis=0,
        weights=None if shares is None else [shares[name] for name in names],
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _rank(similarity: np.ndarray, answer: np.ndarray, wrong: np.ndarray, axis: int) -> np.ndarray:
    """Count the wrong candidates above the answer, and half of those with an equal score, along an axis."""
    greater = ((similarity > answer) & wrong).sum(axis=axis)
    equal = ((similarity == answer) & wrong).sum(axis=axis)
    return greater + equal / 2


def _resampled_means(
    values: np.ndarray, clusters: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Compute the means of resamples, which draw whole clusters with replacement."""
    _, cluster_of_item = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(cluster_of_item, weights=values), np.bincount(cluster_of_item)
    # Clusters of equal sum and size are interchangeable, so a resample is a multinomial draw over a few distinct ones.
    distinct, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    drawn = generator.multinomial(len(sums), counts / len(sums), size=resamples)  # (resamples, distinct)
    return (drawn @ distinct[0]) / (drawn @ distinct[1])
