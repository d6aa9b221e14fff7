"""The base of every benchmark: images and texts to encode, groups to compare, and a pure function of the scores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...data.images import file_name
from ..results import Ability, Score


class Benchmark(ABC):
    """Images, texts, and the groups of them that a model scores.

    A benchmark never sees the model. It lists images and texts, groups them, and receives the scores of each group. A
    group is one image with two captions, two images with two captions, or, for retrieval, all images with all captions.

    Args:
        images (sequence of path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): Images; a repeated image is encoded
            once.
        texts (sequence of `str` or `tuple[str, ...]`): Texts, or ensembles of prompts whose features are averaged; a
            repeated text is encoded once.
        image_groups (array of shape `(groups, I)`): Positions in `images`.
        text_groups (array of shape `(groups, C)`): Positions in `texts`.
        n_found (`int`): Items that can be scored.
        n_listed (`int`, *optional*): Items that the benchmark lists. Default: `n_found`.
        notes (sequence of `str`): Notes for readers of the scores.

    Attributes:
        name (`str`): Key of the benchmark in results.
        suite (`str`): Title of the table that its scores belong to.
        ability (`str`): "composition", if it tests the structure of captions, or "recognition", the ability that
            fine-tuning for composition must keep.
        columns (`dict[str, str]`): The scores that the table shows, and the column title of each.
        compares_texts (`bool`): Whether `score` also receives `text_scores`, an array of shape `(groups, C, C)`: the
            cosine of every text with every text of its group.
    """

    name: ClassVar[str]
    suite: ClassVar[str]
    ability: ClassVar[Ability]
    columns: ClassVar[dict[str, str]]
    compares_texts: ClassVar[bool] = False

    def __init__(
        self,
        images: Sequence[Any],
        texts: Sequence[str | tuple[str, ...]],
        image_groups: np.ndarray,
        text_groups: np.ndarray,
        n_found: int,
        n_listed: int | None = None,
        notes: Sequence[str] = (),
    ):
        self.images = list(images)
        self.texts = list(texts)
        self.image_groups = image_groups
        self.text_groups = text_groups
        self.n_found = n_found
        self.n_listed = n_found if n_listed is None else n_listed
        self.notes = list(notes)

    @abstractmethod
    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Turn the scores of the groups into metrics.

        Args:
            scores (`numpy.ndarray` of shape `(groups, C, I)`): `scores[group, text, image]`.

        Returns:
            `tuple[dict[str, Score], list[dict]]`: the metrics by name, and one row per item or query, from which the
            metrics can be computed again.
        """


def grouped_file_names(benchmark: Benchmark) -> list[list[str | None]]:
    """Name the files of the images of each group; `None` stands for an image in memory."""
    return [[file_name(benchmark.images[place]) for place in group] for group in benchmark.image_groups]
