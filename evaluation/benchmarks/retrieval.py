"""Retrieval between images and captions, in both directions, as several benchmarks ask for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..blind.text import chance_recall
from ..metrics import bootstrap_interval, retrieval_ranks
from ..results import Score
from .base import Benchmark


class Retrieval(Benchmark):
    """Find the captions of each image and the image of each caption, among all.

    Metrics: `image_to_text_recall_<k>` and `text_to_image_recall_<k>`, over queries; see `recall_at_k` for ties.

    Args:
        images (sequence of path, bytes, `dict` or `PIL.Image.Image`): Distinct images.
        captions (sequence of `str`): Captions.
        image_of_caption (sequence of `int`): Position of the image that each caption describes.
        ks (sequence of `int`): Depths, >= 1.
        n_listed (`int`, *optional*): Captions that the benchmark lists. Default: all are found.
        notes (sequence of `str`): Notes for readers of the scores.
    """

    ability = "recognition"

    def __init__(
        self,
        images: Sequence[Any],
        captions: Sequence[str],
        image_of_caption: Sequence[int],
        ks: Sequence[int],
        n_listed: int | None = None,
        notes: Sequence[str] = (),
    ):
        self.image_of_caption = np.asarray(image_of_caption)
        self.ks = tuple(ks)
        super().__init__(
            images=images,
            texts=captions,
            image_groups=np.arange(len(images))[None, :],
            text_groups=np.arange(len(captions))[None, :],
            n_found=len(captions),
            n_listed=n_listed,
            notes=notes,
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the retrieval; see `Benchmark.score`."""
        ranks = retrieval_ranks(scores[0].T, self.image_of_caption)
        # Captions of one image are not independent queries.
        clusters = {"image_to_text": None, "text_to_image": self.image_of_caption}
        own_counts, images_of_count = np.unique(np.bincount(self.image_of_caption), return_counts=True)
        metrics = {}
        for k in self.ks:
            chances = {
                "image_to_text": np.average(
                    [chance_recall(len(self.texts), own, k) for own in own_counts.tolist()], weights=images_of_count
                ),
                "text_to_image": chance_recall(len(self.images), 1, k),
            }
            for direction, rank in ranks.items():
                hits = rank < k
                metrics[f"{direction}_recall_{k}"] = Score(
                    value=float(hits.mean()),
                    n=len(hits),
                    interval=bootstrap_interval(hits, clusters=clusters[direction]),
                    chance=float(chances[direction]),
                )
        rows = [
            {"direction": direction, "query": query, "rank": float(rank)}
            for direction, query_ranks in ranks.items()
            for query, rank in enumerate(query_ranks)
        ]
        return metrics, rows
