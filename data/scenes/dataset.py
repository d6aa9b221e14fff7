"""Rows for training: an image, a caption and its negatives, each a pure function of split, seed and epoch."""

import random
from typing import Any

from torch.utils.data import Dataset

from .captions import Caption, full_caption, web_caption
from .graph import Scene, generate_scene
from .negatives import NEGATIVE_KINDS, negative_caption
from .render import render

SEED_STRIDE = 2**32  # a dataset's scenes are numbered from here on for each seed, so that two seeds share none


def sample_negatives(
    scene: Scene, caption: Caption, num_negatives: int, rng: random.Random
) -> tuple[list[str], list[str]]:
    """Draw distinct negative captions, their kinds uniform over the seven as far as the caption allows.

    Args:
        scene (`Scene`): The scene that the caption is true of.
        caption (`Caption`): What to edit.
        num_negatives (`int`): How many to draw, >= 0.
        rng (`random.Random`): Advanced in place.

    Returns:
        `tuple[list[str], list[str]]`: Texts and kinds, of equal length; fewer than `num_negatives` where a short
        caption has no more to give.
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
        num_negatives (`int`): K, >= 0.
        image_size (`int`): Side of the image in pixels.
        epoch (`int`): Varies caption and negatives; the image stays.

    Returns:
        `dict`: `image` (`PIL.Image.Image`), `caption` (`str`), `negative_captions` (`list[str]`, K long, "" where
        there is none), `negative_mask` (`list[int]`, 1 where there is one), `negative_kinds` (`list[str]`, likewise
        padded) and `image_id` (`int`, the seed).
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

    A dense row shows two objects and its caption says it all.
    """
    scene = generate_scene(seed, 2 if dense else None, split)
    caption = (full_caption if dense else web_caption)(scene, random.Random(f"web/{split}/{seed}"))
    return {"image": render(scene, image_size), "caption": caption.text, "image_id": seed}


class WebSceneDataset(Dataset):
    """Scenes with web-like captions, to train a base model that is weak on composition; see `web_row`.

    Args:
        count (`int`): Number of scenes.
        split (`str`): One of `SPLITS`.
        image_size (`int`): Side of the image in pixels.
        seed (`int`): Two seeds share no scene, for counts up to 2**32.
        dense (`int`): So many rows, the first ones, have full captions of two objects: an easy start, after which a
            model reads web-like captions many times faster.
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
    """Scenes with full captions and negatives, to fine-tune and to test with; see `scene_row`.

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        num_negatives (`int`): K, >= 0.
    """

    def __init__(self, count: int, split: str = "train", num_negatives: int = 4, image_size: int = 64, seed: int = 0):
        super().__init__(count, split, image_size, seed)
        self.num_negatives = num_negatives

    def __getitem__(self, index: int) -> dict[str, Any]:
        return scene_row(self.scene_seed(index), self.split, self.num_negatives, self.image_size)
