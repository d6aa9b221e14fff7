"""Rows for training: an image, a caption and its negatives, as pure functions of split, seed and epoch."""

import random
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from .captions import WEB_MIX, Caption, WebMix, full_caption, web_caption
from .graph import Scene, generate_scene
from .negatives import NEGATIVE_KINDS, negative_caption
from .render import render

SEED_STRIDE = 2**32  # distance between the first scenes of two dataset seeds, so that they share no scene


def sample_negatives(
    scene: Scene,
    caption: Caption,
    num_negatives: int,
    rng: random.Random,
    kinds: Sequence[str] = NEGATIVE_KINDS,
) -> tuple[list[str], list[str]]:
    """Draw distinct negative captions, with kinds uniform as far as the caption allows.

    Args:
        scene (`Scene`): The scene.
        caption (`Caption`): A caption that is true of the scene.
        num_negatives (`int`): Number of negatives to draw, >= 0.
        rng (`random.Random`): Random generator, advanced in place.
        kinds (sequence of `str`): Kinds to draw from, among `NEGATIVE_KINDS`.

    Returns:
        `tuple[list[str], list[str]]`: Texts and kinds, of equal length. A short caption may have fewer than
        `num_negatives`.
    """
    found: dict[str, str] = {}
    for _ in range(8 * num_negatives):
        if len(found) == num_negatives:
            break
        kind = rng.choice(kinds)
        text = negative_caption(scene, caption, kind, rng)
        if text is not None:
            found.setdefault(text, kind)
    return list(found), list(found.values())


def scene_row(
    seed: int,
    split: str = "train",
    num_negatives: int = 4,
    image_size: int = 64,
    epoch: int = 0,
    num_objects: int | None = None,
    kinds: Sequence[str] = NEGATIVE_KINDS,
) -> dict[str, Any]:
    """Return a scene with a full caption and negatives.

    Args:
        seed (`int`): Seed of the scene.
        split (`str`): One of `SPLITS`.
        num_negatives (`int`): Number of negatives K, >= 0.
        image_size (`int`): Side of the image in pixels.
        epoch (`int`): Each epoch has another caption and other negatives of the same image.
        num_objects (`int`, *optional*): Number of objects in the scene. By default it is drawn.
        kinds (sequence of `str`): Kinds of negatives to draw from, among `NEGATIVE_KINDS`.

    Returns:
        `dict`: `image` (`PIL.Image.Image`), `caption` (`str`), `negative_captions` (`list[str]` of length K, padded
        with ""), `negative_mask` (`list[int]` of length K, 0 for padding), `negative_kinds` (`list[str]` of length K,
        padded with "") and `image_id` (`int`, the seed).

    Example:

        >>> row = scene_row(13, num_negatives=2)
        >>> row["caption"]
        'a yellow heart to the left of a red umbrella'
        >>> row["negative_captions"][0], row["negative_kinds"][0]
        ('a red umbrella to the left of a yellow heart', 'swap_object')
    """
    scene = generate_scene(seed, num_objects, split)
    rng = random.Random(f"row/{split}/{seed}/{epoch}")
    caption = full_caption(scene, rng)
    texts, of_kinds = sample_negatives(scene, caption, num_negatives, rng, kinds)
    missing = num_negatives - len(texts)
    return {
        "image": render(scene, image_size),
        "caption": caption.text,
        "negative_captions": texts + [""] * missing,
        "negative_mask": [1] * len(texts) + [0] * missing,
        "negative_kinds": of_kinds + [""] * missing,
        "image_id": seed,
    }


def web_row(seed: int, split: str = "train", image_size: int = 64, mix: WebMix = WEB_MIX) -> dict[str, Any]:
    """Return a scene with a web-like caption: `image`, `caption` and `image_id`, as in `scene_row`."""
    scene = generate_scene(seed, split=split)
    caption = web_caption(scene, random.Random(f"web/{split}/{seed}"), mix)
    return {"image": render(scene, image_size), "caption": caption, "image_id": seed}


class WebSceneDataset(Dataset):
    """Scenes with web-like captions, to train a base model that is weak on composition. Rows are those of [`web_row`].

    Args:
        count (`int`): Number of scenes.
        split (`str`): One of `SPLITS`.
        image_size (`int`): Side of the image in pixels.
        seed (`int`): Seed of the dataset. Two seeds share no scene, for counts up to 2**32.
        mix (`WebMix`): Make-up of the captions.
    """

    def __init__(self, count: int, split: str = "train", image_size: int = 64, seed: int = 0, mix: WebMix = WEB_MIX):
        self.count = count
        self.split = split
        self.image_size = image_size
        self.seed = seed
        self.mix = mix

    def __len__(self) -> int:
        return self.count

    def scene_seed(self, index: int) -> int:
        """Return the seed of the scene at an index."""
        if not 0 <= index < self.count:
            raise IndexError(f"index is {index}; accepted: 0 to {self.count - 1}")
        return self.seed * SEED_STRIDE + index

    def __getitem__(self, index: int) -> dict[str, Any]:
        return web_row(self.scene_seed(index), self.split, self.image_size, self.mix)


class SceneDataset(WebSceneDataset):
    """Scenes with full captions and negatives, to fine-tune and test. Rows are those of [`scene_row`].

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        num_negatives (`int`): Number of negatives per row, >= 0.
        num_objects, kinds: As in [`scene_row`].
    """

    def __init__(
        self,
        count: int,
        split: str = "train",
        num_negatives: int = 4,
        image_size: int = 64,
        seed: int = 0,
        num_objects: int | None = None,
        kinds: Sequence[str] = NEGATIVE_KINDS,
    ):
        super().__init__(count, split, image_size, seed)
        self.num_negatives = num_negatives
        self.num_objects = num_objects
        self.kinds = kinds

    def __getitem__(self, index: int) -> dict[str, Any]:
        return scene_row(
            self.scene_seed(index),
            self.split,
            self.num_negatives,
            self.image_size,
            num_objects=self.num_objects,
            kinds=self.kinds,
        )
