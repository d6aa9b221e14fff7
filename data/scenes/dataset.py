"""Rows for training: an image, a caption and its negatives, as pure functions of split, seed and epoch."""

import random
from typing import Any

from torch.utils.data import Dataset

from .captions import Caption, full_caption, web_caption
from .graph import Scene, generate_scene
from .negatives import NEGATIVE_KINDS, negative_caption
from .render import render

SEED_STRIDE = 2**32  # distance between the first scenes of two dataset seeds, so that they share no scene


def sample_negatives(
    scene: Scene, caption: Caption, num_negatives: int, rng: random.Random
) -> tuple[list[str], list[str]]:
    """Draw distinct negative captions, with kinds uniform over the seven as far as the caption allows.

    Args:
        scene (`Scene`): The scene.
        caption (`Caption`): A caption that is true of the scene.
        num_negatives (`int`): Number of negatives to draw, >= 0.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `tuple[list[str], list[str]]`: Texts and kinds, of equal length. A short caption may have fewer than
        `num_negatives`.
    """
    found: dict[str, str] = {}
    for _ in range(8 * num_negatives):
        if len(found) == num_negatives:
            break
        kind = rng.choice(NEGATIVE_KINDS)
        text = negative_caption(scene, caption, kind, rng)
        if text is not None:
            found.setdefault(text, kind)
    return list(found), list(found.values())


def scene_row(
    seed: int, split: str = "train", num_negatives: int = 4, image_size: int = 64, epoch: int = 0
) -> dict[str, Any]:
    """Return a scene with a full caption and negatives.

    Args:
        seed (`int`): Seed of the scene.
        split (`str`): One of `SPLITS`.
        num_negatives (`int`): Number of negatives K, >= 0.
        image_size (`int`): Side of the image in pixels.
        epoch (`int`): Each epoch has another caption and other negatives of the same image.

    Returns:
        `dict`: `image` (`PIL.Image.Image`), `caption` (`str`), `negative_captions` (`list[str]` of length K, padded
        with ""), `negative_mask` (`list[int]` of length K, 0 for padding), `negative_kinds` (`list[str]` of length K,
        padded with "") and `image_id` (`int`, the seed).

    Example:

        >>> row = scene_row(3, num_negatives=2)
        >>> row["caption"]
        'a picture of a pink square to the left of a green diamond'
        >>> row["negative_captions"][0], row["negative_kinds"][0]
        ('a picture of a green diamond to the left of a pink square', 'swap_object')
    """
    scene = generate_scene(seed, split=split)
    rng = random.Random(f"row/{split}/{seed}/{epoch}")
    caption = full_caption(scene, rng)
    texts, kinds = sample_negatives(scene, caption, num_negatives, rng)
    missing = num_negatives - len(texts)
    return {
        "image": render(scene, image_size),
        "caption": caption.text,
        "negative_captions": texts + [""] * missing,
        "negative_mask": [1] * len(texts) + [0] * missing,
        "negative_kinds": kinds + [""] * missing,
        "image_id": seed,
    }


def web_row(seed: int, split: str = "train", image_size: int = 64, dense: bool = False) -> dict[str, Any]:
    """Return a scene with a web-like caption: `image`, `caption` and `image_id`, as in `scene_row`.

    A dense row has two objects and a full caption.
    """
    scene = generate_scene(seed, 2 if dense else None, split)
    caption = (full_caption if dense else web_caption)(scene, random.Random(f"web/{split}/{seed}"))
    return {"image": render(scene, image_size), "caption": caption.text, "image_id": seed}


class WebSceneDataset(Dataset):
    """Scenes with web-like captions, to train a base model that is weak on composition. Rows are those of [`web_row`].

    Args:
        count (`int`): Number of scenes.
        split (`str`): One of `SPLITS`.
        image_size (`int`): Side of the image in pixels.
        seed (`int`): Seed of the dataset. Two seeds share no scene, for counts up to 2**32.
        dense (`int`): Number of first rows with full captions of two objects. After this easy start a model learns
            web-like captions many times faster.
    """

    def __init__(self, count: int, split: str = "train", image_size: int = 64, seed: int = 0, dense: int = 0):
        self.count = count
        self.split = split
        self.image_size = image_size
        self.seed = seed
        self.dense = dense

    def __len__(self) -> int:
        return self.count

    def scene_seed(self, index: int) -> int:
        """Return the seed of the scene at an index."""
        if not 0 <= index < self.count:
            raise IndexError(f"index is {index}; accepted: 0 to {self.count - 1}")
        return self.seed * SEED_STRIDE + index

    def __getitem__(self, index: int) -> dict[str, Any]:
        return web_row(self.scene_seed(index), self.split, self.image_size, index < self.dense)


class SceneDataset(WebSceneDataset):
    """Scenes with full captions and negatives, to fine-tune and test. Rows are those of [`scene_row`].

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        num_negatives (`int`): Number of negatives per row, >= 0.
    """

    def __init__(self, count: int, split: str = "train", num_negatives: int = 4, image_size: int = 64, seed: int = 0):
        super().__init__(count, split, image_size, seed)
        self.num_negatives = num_negatives

    def __getitem__(self, index: int) -> dict[str, Any]:
        return scene_row(self.scene_seed(index), self.split, self.num_negatives, self.image_size)
