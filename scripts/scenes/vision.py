"""Stage one of the base model: its image tower learns from scene graphs which thing has which colour, size and place.

Contrast alone does not teach a small tower to see: in 4,000 steps from scratch it never learns places. The real CLIP
has 400 million pairs to learn to see from; here the labels of the graph stand in for them. The tower's pooled output is
asked for every noun whether it is there, and if so for its colour, size and half of the image. Its patches are asked
for the noun and the colour that they show. The heads are thrown away.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, default_collate

from ...data.scenes import COLOURS, NOUNS, SIZES, generate_scene, render
from ...data.scenes.graph import MAX_OBJECTS
from ...trainers.trainer import BaseArguments, BaseTrainer

PIXEL_MEAN, PIXEL_STD = 0.6, 0.3
IGNORED = -100  # by cross_entropy
ZOOMED = 0.25  # share of scenes
MIDDLE = 0.16  # of the image side; a zoomed object this near to the middle, twice the distance, is in no half
QUERY_WIDTH = 24  # of the space in which nouns ask for their colour
PATCH_LAYER = -2  # the last layer is left to the pooled output


class LabelledScenes(Dataset):
    """Scenes with the labels of their graph; some are zoomed in on one or two objects, as photographs are.

    Args:
        count (`int`): Number of scenes.
        split (`str`): One of `SPLITS`.
        image_size, patch_size (`int`): Sides of the image and of a patch, in pixels.
        seed (`int`): Seed of the first scene.
        plain (`int`): Number of first scenes that are not zoomed, an easier start.
    """

    def __init__(self, count: int, split: str, image_size: int, patch_size: int, seed: int = 0, plain: int = 0):
        self.count, self.split, self.seed, self.plain = count, split, seed, plain
        self.image_size, self.patch_size = image_size, patch_size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `pixels` (3, H, W) in [0, 255]; `objects` (4, 5): noun, colour, large, right half, lower half; and
        `patches` (P, 2): the noun and colour under the centre of each patch. -100 stands for nothing to learn."""
        scene = generate_scene(self.seed + index, split=self.split)
        draw = random.Random(f"zoom/{self.seed + index}")
        image = render(scene, self.image_size)
        boxes: Sequence[tuple[float, float, float, float]] = scene.boxes(self.image_size)
        zoomed = index >= self.plain and draw.random() < ZOOMED
        if zoomed:
            image, boxes = zoom(image, boxes, draw)
        objects = np.full((MAX_OBJECTS, 5), IGNORED)
        side = self.image_size // self.patch_size
        patches = np.full((side, side, 2), (len(NOUNS), IGNORED))
        centres = (np.arange(side) + 0.5) * self.patch_size
        for k, (item, (left, top, right, bottom)) in enumerate(zip(scene.objects, boxes, strict=True)):
            if min(left, top) < 0 or max(right, bottom) > self.image_size:
                continue  # cut off by the zoom
            noun, colour = NOUNS.index(item.noun), COLOURS.index(item.colour)
            right_half, lower_half = (
                IGNORED if zoomed and abs(both - self.image_size) < MIDDLE * self.image_size else both > self.image_size
                for both in (left + right, top + bottom)
            )
            objects[k] = noun, colour, IGNORED if zoomed else SIZES.index(item.size), right_half, lower_half
            rows, columns = (centres > top) & (centres < bottom), (centres > left) & (centres < right)
            patches[np.ix_(rows, columns)] = noun, colour
        return {
            "pixels": np.asarray(image).transpose(2, 0, 1),
            "objects": objects,
            "patches": patches.reshape(-1, 2),
        }


def zoom(
    image: Image.Image, boxes: Sequence[tuple[float, float, float, float]], draw: random.Random
) -> tuple[Image.Image, list[tuple[float, float, float, float]]]:
    """Cut an image to the boxes of one or two objects, and stretch the cut to the size of the image.

    Args:
        image (`PIL.Image.Image`): A square image.
        boxes (sequence of 4 `float`): (left, top, right, bottom) of its objects in pixels.
        draw (`random.Random`): Random generator, advanced in place.

    Returns:
        `tuple`: the image, and the boxes in it; objects beyond the cut have boxes that reach beyond the image.
    """
    chosen = draw.sample(boxes, min(len(boxes), draw.choice((1, 1, 2))))
    left, top = (min(box[k] for box in chosen) for k in (0, 1))
    right, bottom = (max(box[k] for box in chosen) for k in (2, 3))
    x_scale, y_scale = image.width / (right - left), image.height / (bottom - top)
    cut = image.resize(image.size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    return cut, [
        ((box[0] - left) * x_scale, (box[1] - top) * y_scale, (box[2] - left) * x_scale, (box[3] - top) * y_scale)
        for box in boxes
    ]


class SupervisedVision(nn.Module):
    """An image tower with the heads of stage one.

    Args:
        tower (`nn.Module`): CLIP's vision transformer, which is trained in place.
    """

    def __init__(self, tower: nn.Module):
        super().__init__()
        width = tower.config.hidden_size
        self.config, self.tower = tower.config, tower
        self.patch_noun = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(NOUNS) + 1))
        self.patch_colour = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(COLOURS)))
        self.present = nn.Linear(width, len(NOUNS))
        self.query = nn.Linear(width, len(NOUNS) * QUERY_WIDTH)
        # Shared by all nouns, so that a combination that training never shows is not learned to be impossible.
        self.colour = nn.Linear(QUERY_WIDTH, len(COLOURS))
        self.about = nn.Linear(width, len(NOUNS) * 3)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return logits: of nouns and colours per patch, and of each noun's presence, colour, size and halves."""
        outputs = self.tower(pixel_values=(pixels / 255 - PIXEL_MEAN) / PIXEL_STD, output_hidden_states=True)
        patches, pooled = outputs.hidden_states[PATCH_LAYER][:, 1:], outputs.pooler_output
        return {
            "patch_noun": self.patch_noun(patches),  # (B, P, nouns + 1)
            "patch_colour": self.patch_colour(patches),  # (B, P, colours)
            "present": self.present(pooled),  # (B, nouns)
            "colour": self.colour(self.query(pooled).unflatten(1, (len(NOUNS), QUERY_WIDTH))),  # (B, nouns, colours)
            "about": self.about(pooled).unflatten(1, (len(NOUNS), 3)),  # (B, nouns, 3): size, right, lower
        }


class VisionTrainer(BaseTrainer):
    """Trains a `SupervisedVision`. All terms are sums over what an image shows and means over images."""

    def __init__(self, model: SupervisedVision, args: BaseArguments, train_dataset: LabelledScenes, **kwargs: Any):
        super().__init__(model, args, train_dataset, data_collator=default_collate, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Patches: noun and colour. Pooled output: presence of each noun; colour, size and halves of those there."""
        logits, objects = model(inputs["pixels"]), inputs["objects"]
        batch = len(objects)
        image, slot = (objects[..., 0] >= 0).nonzero(as_tuple=True)
        noun, colour, about = objects[image, slot, 0], objects[image, slot, 1], objects[image, slot, 2:]
        known = about != IGNORED
        present = torch.zeros_like(logits["present"])
        present[image, noun] = 1
        patch_noun, patch_colour = inputs["patches"].flatten(0, 1).T
        terms = {
            "patch_noun": (1.0, lambda: functional.cross_entropy(logits["patch_noun"].flatten(0, 1), patch_noun)),
            "patch_colour": (0.3, lambda: functional.cross_entropy(logits["patch_colour"].flatten(0, 1), patch_colour)),
            "present": (1.0, lambda: sum_of_bce(logits["present"], present) / batch),
            "colour": (
                1.0,
                lambda: functional.cross_entropy(logits["colour"][image, noun], colour, reduction="sum") / batch,
            ),
            "about": (1.0, lambda: sum_of_bce(logits["about"][image, noun][known], about[known].float()) / batch),
        }
        loss = self.sum_terms(terms, inputs["row"])
        self.record(accuracies(logits, present, image, noun, colour, about), inputs["row"])
        return (loss, logits) if return_outputs else loss


def sum_of_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the binary cross-entropies."""
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")


@torch.no_grad()
def accuracies(
    logits: dict[str, Tensor], present: Tensor, image: Tensor, noun: Tensor, colour: Tensor, about: Tensor
) -> dict[str, Tensor]:
    """Measure on a batch: nouns found among as many best guesses, and right colours, sizes and halves."""
    count = present.sum(1, keepdim=True).long().clamp(min=1)
    worst = logits["present"].sort(dim=1, descending=True).values.gather(1, count - 1)
    found = (logits["present"] >= worst)[image, noun]
    right = ((logits["about"][image, noun] > 0) == about.bool()).float()
    return {
        "noun_found": found.float().mean(),
        "colour_right": (logits["colour"][image, noun].argmax(1) == colour).float().mean(),
        "size_right": right[:, 0][about[:, 0] != IGNORED].mean(),
        "half_right": right[:, 1:][about[:, 1:] != IGNORED].mean(),
    }
