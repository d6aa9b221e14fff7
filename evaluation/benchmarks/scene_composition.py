"""The seven kinds of false captions, on generated scenes."""

import random
from collections.abc import Sequence
from typing import ClassVar

from ...data.scenes import NEGATIVE_KINDS, composition_items, full_caption, generate_scene, render
from .choice import CaptionChoice, ChoiceItem, columns_of_seven, families_of_seven

NUM_TRAINING_CAPTIONS = 2000


class SceneComposition(CaptionChoice):
    """Choose the true one of two captions of a scene whose combinations of attribute and shape training never shows.

    Schema: `CompositionItem(scene, caption, negative, kind, pair)`. Items come in pairs with exchanged captions, so
    that every blind baseline scores 50 %, with half credit for ties. The blind language models are fitted on captions
    of the training split.

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
        if count < 2 or count % 2:
            raise ValueError(f"count {count}; must be even and at least 2, since items come in pairs")
        drawn = [item for kind in kinds for item in composition_items(kind, count, split, seed)]
        items = [
            ChoiceItem(
                key=f"{item.pair}/{k % 2}",
                kind=item.kind,
                image=render(item.scene, image_size),
                captions=(item.caption, item.negative),
                cluster=f"{item.kind}/{item.pair}",
            )
            for k, item in enumerate(drawn)
        ]
        super().__init__(items, training_captions())
        self.scenes = [item.scene for item in drawn]


def training_captions(count: int = NUM_TRAINING_CAPTIONS) -> list[str]:
    """Return captions of the training split, which share no scene with the test split."""
    return [full_caption(generate_scene(seed), random.Random(seed)).text for seed in range(count)]
