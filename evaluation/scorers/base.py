"""The protocol that every scorer follows, and what scorers share."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ...data.features.encode import Encoded

TextSource = str | tuple[str, ...]  # a text, or an ensemble of prompts


@runtime_checkable
class Scorer(Protocol):
    """Scores requested texts with requested images.

    Groups hold positions in the images and in the texts of the request.

    Attributes:
        image_keys (`list[str]`): Content hash of each requested image.
        counts (`dict[str, int]`): How many images and texts were requested, and how many were encoded; see `work_done`.
    """

    image_keys: list[str]
    counts: dict[str, int]

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Score every text with every image of the same group.

        Args:
            image_groups (`numpy.ndarray` of shape `(groups, I)`): Positions in the requested images.
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, I)`: `scores[group, text, image]`; higher is better.
        """

    def text_scores(self, text_groups: np.ndarray) -> np.ndarray:
        """Score every text with every text of the same group.

        Args:
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, C)`: symmetric; higher is closer.

        Raises:
            ValueError: If the model embeds no texts.
        """


class WithoutTextScores:
    """Part of the scorers of models that answer in words: such a model embeds no texts that could be compared."""

    def text_scores(self, text_groups: np.ndarray) -> np.ndarray:
        """Refuse to compare texts with texts."""
        raise ValueError("texts cannot be compared with one another: an image-text-to-text model embeds no texts")


def work_done(images: Sequence, texts: Sequence, encoded_images: Encoded, encoded_texts: Encoded) -> dict[str, int]:
    """Count the requested images and texts, and those that passed through the model.

    Args:
        images, texts (sequences): The requested images and texts.
        encoded_images, encoded_texts (`Encoded`): The work that they took; it includes regions and phrases, where they
            are encoded too.

    Returns:
        `dict[str, int]`: images and texts requested and encoded, forward passes (`image_batches`, `text_batches`), and
        texts that were truncated.
    """
    return {
        "images_requested": len(images),
        "images_encoded": encoded_images.encoded,
        "image_batches": encoded_images.batches,
        "texts_requested": len(texts),
        "texts_encoded": encoded_texts.encoded,
        "text_batches": encoded_texts.batches,
        "texts_truncated": encoded_texts.truncated,
    }


def single_prompt(text: TextSource) -> str:
    """Return a text as one caption, for scorers that cannot average prompts.

    Args:
        text (`str` or `tuple[str, ...]`): A caption, or an ensemble of prompts.

    Raises:
        ValueError: If an ensemble has several prompts.
    """
    if isinstance(text, str):
        return text
    if len(text) > 1:
        raise ValueError(
            f"an ensemble of {len(text)} prompts cannot be scored as one text: {text[0]!r}, ...; only dual encoders "
            "average prompts"
        )
    return text[0]
