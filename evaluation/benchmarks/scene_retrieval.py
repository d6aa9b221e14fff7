"""Retrieval between generated scenes and their captions."""

from collections.abc import Sequence
from typing import ClassVar

from ...data.scenes import render, retrieval_items
from .retrieval import Retrieval


class SceneRetrieval(Retrieval):
    """Find the caption of each scene and the scene of each caption.

    Schema: `RetrievalItem(scene, caption)`, one caption per scene. A caption may leave things out, so that it is
    sometimes true of another scene too and a perfect model scores a little below 100 %.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count (`int`): Number of scenes, and of captions.
        ks (sequence of `int`): Depths, >= 1.
        image_size (`int`): Side of the drawn image, in pixels.
        seed (`int`): Seed of the items.
        split (`str`): `"test"`, or `"validation"` for choosing settings.

    Attributes:
        scenes (`list[Scene]`): The scene of each image.
    """

    name = "scenes_retrieval"
    suite = "Generated scenes"
    columns: ClassVar[dict[str, str]] = {"image_to_text_recall_1": "I2T R@1", "text_to_image_recall_1": "T2I R@1"}

    def __init__(
        self,
        count: int = 300,
        ks: Sequence[int] = (1, 5, 10),
        image_size: int = 64,
        seed: int = 0,
        split: str = "test",
    ):
        items = retrieval_items(count, split, seed)
        super().__init__(
            images=[render(item.scene, image_size) for item in items],
            captions=[item.caption for item in items],
            image_of_caption=range(count),
            ks=ks,
        )
        self.scenes = [item.scene for item in items]
