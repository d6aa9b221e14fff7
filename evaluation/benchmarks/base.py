"""What every benchmark is: references to encode, groups of scores to compare, and a pure scorer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..results import Score


class Benchmark(ABC):
    """A question to a model that scores texts against images.

    A benchmark never sees the model. It lists images and texts, says which of them belong together, and receives the
    scores. An item is a group of images by texts: one image by two captions, two by two, or, for retrieval, a single
    group of all images by all captions.

    Args:
        images (sequence of path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): Images; repetitions cost nothing.
        texts (sequence of `str` or `tuple[str, ...]`): Texts, or ensembles of prompts whose features are averaged;
            repetitions cost nothing.
        image_groups (array of shape `(groups, I)`): Positions in `images`.
        text_groups (array of shape `(groups, C)`): Positions in `texts`.
        n_found (`int`): Items that can be scored.
        n_listed (`int`, optional): Items that the benchmark lists; by default all are found.
        notes (sequence of `str`): What a reader of the scores must know.

    Attributes:
        name (`str`): Key of the benchmark in results.
        suite (`str`): Title of the table that its scores belong to.
        columns (`dict[str, str]`): The scores that the table shows and the column title of each.
        compares_texts (`bool`): Whether `score` also receives `text_scores`, an array of shape `(groups, C, C)`: the
            cosine of every text with every text of its group.
    """

    name: ClassVar[str]
    suite: ClassVar[str]
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
            `tuple`: the metrics by name, and one row per item or query from which they can be computed again.
        """
