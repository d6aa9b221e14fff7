"""The seven kinds of false captions, on generated scenes."""

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ...data.scenes import (
    NEGATIVE_KINDS,
    CompositionItem,
    composition_items,
    full_caption,
    generate_scene,
    render,
)
from ..metrics import as_scores
from ..results import Score
from .choice import CaptionChoice, ChoiceItem, columns_of_seven, families_of_seven, score_choices
from .paraphrase_choice import ParaphraseChoice, paraphrase_columns

NUM_TRAINING_CAPTIONS = 2000


class SceneComposition(CaptionChoice):
    """Choose the true one of two captions of a scene whose combinations of colour and noun training never shows.

    Schema: `CompositionItem`. Items come in pairs with exchanged captions, so that every blind baseline scores 50 %,
    with half credit for ties. The blind language models are fitted on captions of the training split. Metrics: as
    `CaptionChoice`, and `<kind>/<changed>` for the part of the caption that is changed, such as `swap_object/place`.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count (`int`): Items per kind; even, so that every pair is complete.
        kinds (sequence of `str`): Kinds of false captions, among `NEGATIVE_KINDS`.
        image_size (`int`): Side of the drawn image, in pixels.
        seed (`int`): Seed of the items.
        split (`str`): `"test"`, or `"validation"` for choosing settings.

    Raises:
        ValueError: If the count is odd or below 2, or a kind or the split is unknown.

    Attributes:
        scenes (`list[Scene]`): The scene of each image.
    """

    name = "scenes_composition"
    suite = "Generated scenes"
    families: ClassVar[dict[str, list[str]]] = families_of_seven(NEGATIVE_KINDS)
    columns: ClassVar[dict[str, str]] = columns_of_seven(NEGATIVE_KINDS) | {"all_macro": "mean"}

    def __init__(
        self,
        count: int = 300,
        kinds: Sequence[str] = NEGATIVE_KINDS,
        image_size: int = 64,
        seed: int = 0,
        split: str = "test",
    ):
        drawn = _drawn(count, kinds, split, seed)
        items = _choice_items(drawn, image_size, lambda item: (item.caption, item.negative))
        super().__init__(items, training_captions())
        self.scenes = [item.scene for item in drawn]
        self.changed = np.array([f"{item.kind}/{item.changed}" for item in drawn])

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        options = as_scores(scores)[:, :, 0]
        by_part = score_choices(options, self.baseline_scores, self.changed, self.clusters, {}, chance=1 / 2)
        return metrics | by_part, rows


class SceneParaphrases(ParaphraseChoice):
    """Rank a true caption and its paraphrase above a false caption, on the scenes of `SceneComposition`.

    Schema: `CompositionItem`. Metrics: as `ParaphraseChoice`, by kind and over kinds.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count, kinds, image_size, seed, split: As in `SceneComposition`.

    Raises:
        ValueError: If the count is odd or below 2, or a kind or the split is unknown.

    Attributes:
        scenes (`list[Scene]`): The scene of each image.
    """

    name = "scenes_paraphrases"
    suite = "Generated scenes, in other words"
    families: ClassVar[dict[str, list[str]]] = families_of_seven(NEGATIVE_KINDS)
    columns: ClassVar[dict[str, str]] = paraphrase_columns(NEGATIVE_KINDS)

    def __init__(
        self,
        count: int = 300,
        kinds: Sequence[str] = NEGATIVE_KINDS,
        image_size: int = 64,
        seed: int = 0,
        split: str = "test",
    ):
        drawn = _drawn(count, kinds, split, seed)
        items = _choice_items(drawn, image_size, lambda item: (item.caption, item.paraphrase, item.negative))
        super().__init__(items, training_captions())
        self.scenes = [item.scene for item in drawn]


def _drawn(count: int, kinds: Sequence[str], split: str, seed: int) -> list[CompositionItem]:
    """Draw items of each kind, in whole pairs."""
    if count < 2 or count % 2:
        raise ValueError(f"count {count}; must be even and at least 2, since items come in pairs")
    return [item for kind in kinds for item in composition_items(kind, count, split, seed)]


def _choice_items(
    drawn: Sequence[CompositionItem], image_size: int, captions: Callable[[CompositionItem], tuple[str, ...]]
) -> list[ChoiceItem]:
    """Draw the scenes, and cluster the two items of each pair."""
    return [
        ChoiceItem(
            key=f"{item.pair}/{k % 2}",
            kind=item.kind,
            image=render(item.scene, image_size),
            captions=captions(item),
            cluster=f"{item.kind}/{item.pair}",
        )
        for k, item in enumerate(drawn)
    ]


def training_captions(count: int = NUM_TRAINING_CAPTIONS) -> list[str]:
    """Return captions of the training split, which share no scene with the test split."""
    return [full_caption(generate_scene(seed), random.Random(seed)).text for seed in range(count)]
