"""From rows to tensors: images cropped and captions laid out, every random choice a function of (seed, epoch, row)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from ..data.images import open_image

SIDE_RATIOS = (3 / 4, 4 / 3)  # of a random crop, width to height


def split_captions(text: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Give flat text rows their negatives axis back; the inverse of the layout that `AlignmentCollator` makes.

    Args:
        text (`torch.Tensor` of shape `(B*(1+K), ...)`): B captions, then the K negatives of caption 0, of 1, ...
        batch (`int`): B.

    Returns:
        `tuple`: captions `(B, ...)` and negatives `(B, K, ...)`.

    Raises:
        ValueError: If the rows are no multiple of the batch.
    """
    if batch == 0 or len(text) % batch:
        raise ValueError(f"{len(text)} text rows are no whole number of captions and negatives for {batch} images")
    return text[:batch], text[batch:].reshape(batch, len(text) // batch - 1, *text.shape[1:])


@dataclass
class AlignmentCollator:
    """Make a training batch of images, captions and hard negative captions.

    A row has `image` (PIL, of any mode), `caption` (str), optionally `negative_captions` (list of str) and
    `negative_mask` (list of int), and `row` and `epoch` (int), which the trainer adds. With B rows, K negatives and T
    tokens in the longest text:

    ```
    pixel_values   (B, 3, H, W)    float
    input_ids      (B*(1+K), T)    captions first, then the negatives of row 0, of row 1, ...
    attention_mask (B*(1+K), T)
    negative_mask  (B, K)          1 where the negative exists
    row            (B,)            where each sample stands in the dataset
    ```

    Args:
        processor (`ProcessorMixin`): Tokenizer and image processor of a CLIP-like model.
        num_negatives (`int`): K. A row with fewer is filled with masked slots.
        negative_choice (`str`): Which of more than K negatives: the `"first"` or a `"random"` one each epoch.
        padding (`str`): `"longest"`, exact for causal text towers such as CLIP's, or `"max_length"`.
        crop_scale (`tuple[float, float]`, *optional*): Area range of a random resized crop, shares of the image in
            (0, 1]. None: the processor's own resizing.
        seed (`int`): Root of every random choice.
    """

    processor: ProcessorMixin
    num_negatives: int
    negative_choice: Literal["first", "random"] = "first"
    padding: Literal["longest", "max_length"] = "longest"
    crop_scale: tuple[float, float] | None = None
    seed: int = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        draws = [random.Random(f"{self.seed}/{row['epoch']}/{row['row']}") for row in rows]
        chosen = [self._negatives(row, draw) for row, draw in zip(rows, draws, strict=True)]
        texts = [row["caption"] for row in rows] + [text for negatives in chosen for text, _ in negatives]
        encoded = self.processor.tokenizer(texts, padding=self.padding, truncation=True, return_tensors="pt")
        mask = torch.tensor([[valid for _, valid in negatives] for negatives in chosen], dtype=torch.long)
        return {
            "pixel_values": self._pixels([row["image"] for row in rows], draws),
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "negative_mask": mask.reshape(len(rows), self.num_negatives),
            "row": torch.tensor([row["row"] for row in rows]),
        }

    def _negatives(self, row: dict[str, Any], draw: random.Random) -> list[tuple[str, int]]:
        """K texts with their validity; an absent one is the caption itself, masked: it costs no longer batch."""
        texts = row.get("negative_captions") or []
        mask = row.get("negative_mask") or [1] * len(texts)
        slots = list(zip(texts, mask, strict=True))
        if self.negative_choice == "random" and len(slots) > self.num_negatives:
            valid = [slot for slot in slots if slot[1]]
            slots = draw.sample(valid, min(self.num_negatives, len(valid)))
        slots = [(text if valid else row["caption"], int(valid)) for text, valid in slots[: self.num_negatives]]
        return slots + [(row["caption"], 0)] * (self.num_negatives - len(slots))

    def _pixels(self, images: list[Image.Image], draws: list[random.Random]) -> Tensor:
        """The images as the model wants them, each cut by its own draw."""
        processor = self.processor.image_processor
        images = [open_image(image) for image in images]
        if self.crop_scale is None:
            return processor(images, return_tensors="pt")["pixel_values"]
        height, width = _input_size(processor)
        images = [
            image.resize((width, height), Image.Resampling.BICUBIC, crop_box(image.size, self.crop_scale, draw))
            for image, draw in zip(images, draws, strict=True)
        ]
        return processor(images, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]


def crop_box(
    size: tuple[int, int], scale: tuple[float, float], draw: random.Random
) -> tuple[float, float, float, float]:
    """A random crop of the given area share and a side ratio within 3/4 and 4/3, as in Inception's augmentation.

    Args:
        size (`tuple[int, int]`): Width and height in pixels.
        scale (`tuple[float, float]`): Smallest and largest share of the area, in (0, 1].
        draw (`random.Random`): Source of the choice.

    Returns:
        `tuple`: left, upper, right, lower in pixels, inside the image, far edges excluded. Of an image too
        narrow for such a crop, its middle as far as the ratio allows.
    """
    width, height = size
    narrowest, widest = SIDE_RATIOS
    for _ in range(10):
        area = draw.uniform(*scale) * width * height
        ratio = narrowest * (widest / narrowest) ** draw.random()  # log-uniform
        crop_width, crop_height = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if crop_width <= width and crop_height <= height:
            left, upper = draw.uniform(0, width - crop_width), draw.uniform(0, height - crop_height)
            return left, upper, left + crop_width, upper + crop_height
    crop_width, crop_height = min(width, height * widest), min(height, width / narrowest)
    left, upper = (width - crop_width) / 2, (height - crop_height) / 2
    return left, upper, left + crop_width, upper + crop_height


def _input_size(image_processor: Any) -> tuple[int, int]:
    """Height and width of the model's input."""
    size = image_processor.crop_size if image_processor.do_center_crop else image_processor.size
    return size["height"], size["width"]
