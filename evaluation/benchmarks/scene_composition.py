"""The seven kinds of false captions, on scenes of the generated world."""

import random
from collections.abc import Sequence
from typing import ClassVar

from ...data.scenes import NEGATIVE_KINDS, composition_items, full_caption, generate_scene, render
from .choice import CaptionChoice, ChoiceItem, columns_of_seven, families_of_seven

NUM_TRAINING_CAPTIONS = 2000


class SceneComposition(CaptionChoice):
    """Which of two captions is true of a scene that training could not have shown?

    Schema: `CompositionItem(scene, caption, negative, kind, pair)`. Items come in pairs that exchange the two captions,
    so every blind baseline is at 50 %, with half credit for ties. The blind language models are fitted on captions of
    the training split.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count (`int`): Items a kind; even, so that every pair is whole.
        kinds (sequence of `str`): Some of `NEGATIVE_KINDS`.
        image_size (`int`): Side of the drawn image, in pixels.
        seed (`int`): The items are a function of it.
        split (`str`): `"test"`, or `"validation"` to choose settings on.

    Raises:
        ValueError: If the count is odd or below 2, or a kind or the split is unknown.
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
        if count < 2 or count % 2:
            raise ValueError(f"count {count}; must be even and at least 2, for the items come in pairs")
        items = [
            ChoiceItem(
                key=f"{item.pair}/{k % 2}",
                kind=kind,
                image=render(item.scene, image_size),
                captions=(item.caption, item.negative),
                cluster=f"{kind}/{item.pair}",
            )
            for kind in kinds
            for k, item in enumerate(composition_items(kind, count, split, seed))
        ]
        super().__init__(items, training_captions())


def training_captions(count: int = NUM_TRAINING_CAPTIONS) -> list[str]:
    """Return captions of the training split, which know nothing of the test scenes."""
    return [full_caption(generate_scene(seed), random.Random(seed)).text for seed in range(count)]
