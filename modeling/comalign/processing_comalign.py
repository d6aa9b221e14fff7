"""ComAlign's inputs: images with their regions as crops, captions with their phrases, in a fixed number of slots."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import ImageInput, is_pil_image

Box = Sequence[float]


class ComAlignProcessor(ProcessorMixin):
    """The frozen encoder's image processor and tokenizer, for whole images and captions and for their components.

    Args:
        image_processor: Image processor of the frozen dual encoder; it must bring all images to one size.
        tokenizer: Tokenizer of the frozen dual encoder.
        entities (`int`): Entity slots per image and per caption, as in the model's configuration.
        relations (`int`): Relation slots, which follow the entity slots.
        padding (`str`): Padding of texts: "max_length", which is right for every encoder, or "longest", which is
            shorter, and exact where the encoder cannot see padding (CLIP).
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        entities: int = 10,
        relations: int = 10,
        padding: str = "max_length",
    ):
        super().__init__(image_processor, tokenizer)
        self.entities = entities
        self.relations = relations
        self.padding = padding

    def __call__(
        self,
        images: Sequence[ImageInput] | None = None,
        regions: Sequence[Mapping[str, Sequence[Box]]] | None = None,
        text: Sequence[str] | None = None,
        phrases: Sequence[Mapping[str, Sequence[str]]] | None = None,
    ) -> BatchFeature:
        """Prepare images, captions or both for a [`ComAlignModel`] with a frozen encoder.

        Args:
            images (sequence of B `PIL.Image.Image`): Upright; converted to RGB.
            regions (sequence of B `dict`, *optional*): `{"entities": boxes, "relations": boxes}` for each image, best
                first. A box is (left, top, right, bottom) in pixels, far edges excluded; it is clipped to the image and
                widened to whole pixels. Default: no regions.
            text (sequence of T `str`): Captions, truncated to the encoder's context length.
            phrases (sequence of T `dict`, *optional*): `{"entities": [...], "relations": [...]}` for each caption.
                Default: no phrases.

        Returns:
            `BatchFeature` of tensors: `pixel_values (B, 3, height, width)`, `region_pixel_values (B, P, 3, height,
            width)` and `image_mask (B, P)` for images; for captions, the tokenizer's outputs `(T, L)`, those for the
            phrases `(T, Q, M)` with the prefix "phrase_", and `text_mask (T, Q)`. Masks are True where a slot is
            filled; P = Q = `entities + relations`.

        Raises:
            ValueError: If nothing is given, numbers of items disagree, an item has more components than slots or keys
                other than "entities" and "relations", or a box has no area or is not four finite numbers.
        """
        if images is None and text is None:
            raise ValueError("the processor needs images, text or both, got neither")
        if (images is None and regions is not None) or (text is None and phrases is not None):
            raise ValueError("regions need their images and phrases their text")
        inputs = {}
        if images is not None:
            inputs |= self._image_inputs(images, [{}] * len(images) if regions is None else regions)
        if text is not None:
            inputs |= self._text_inputs(text, [{}] * len(text) if phrases is None else phrases)
        return BatchFeature(inputs)

    @property
    def model_input_names(self) -> list[str]:
        """Names of the inputs that the model's forward takes."""
        tokens = self.tokenizer.model_input_names
        return [
            *("pixel_values", "region_pixel_values", "image_mask", "text_mask"),
            *tokens,
            *(f"phrase_{name}" for name in tokens),
        ]

    def _image_inputs(self, images: Sequence[ImageInput], regions: Sequence[Mapping]) -> dict[str, Tensor]:
        """The inputs of the image side."""
        for index, image in enumerate(images):
            if not is_pil_image(image):
                raise ValueError(f"images[{index}] must be a PIL image, got {type(image).__name__}")
        images = [image.convert("RGB") for image in images]
        boxes, mask = self._slots("regions", regions, len(images))
        crops = [
            images[index].crop(_whole_pixels(box, images[index].size, f"regions[{index}][{role!r}][{number}]"))
            for index, role, number, box in boxes
        ]
        pixels = self.image_processor(images=images + crops, return_tensors="pt")["pixel_values"]
        whole, parts = pixels[: len(images)], pixels[len(images) :]
        return {"pixel_values": whole, "region_pixel_values": _fill(parts, mask, 0), "image_mask": mask}

    def _text_inputs(self, text: Sequence[str], phrases: Sequence[Mapping]) -> dict[str, Tensor]:
        """The inputs of the text side."""
        if isinstance(text, str):
            raise ValueError(f"text must be a sequence of captions, got the single string {text!r}")
        found, mask = self._slots("phrases", phrases, len(text))
        # No tokenizer takes an empty list, so one text goes with the phrases and is dropped again.
        parts = self._tokens([phrase for *_, phrase in found] + [""])
        empty = {"input_ids": self.tokenizer.pad_token_id or 0}
        return {
            **self._tokens(list(text)),
            **{f"phrase_{name}": _fill(value[:-1], mask, empty.get(name, 0)) for name, value in parts.items()},
            "text_mask": mask,
        }

    def _slots(self, name: str, items: Sequence[Mapping], count: int) -> tuple[list[tuple], Tensor]:
        """All components as (item, role, number, component) in slot order, and a mask of the filled slots."""
        if len(items) != count:
            raise ValueError(f"{name} must be one for each of {count} items, got {len(items)}")
        found, mask = [], torch.zeros(count, self.entities + self.relations, dtype=torch.bool)
        for index, item in enumerate(items):
            if unknown := set(item) - {"entities", "relations"}:
                raise ValueError(f"{name}[{index}] may hold 'entities' and 'relations', got {sorted(unknown)} too")
            for role, first, slots in (("entities", 0, self.entities), ("relations", self.entities, self.relations)):
                components = item.get(role, ())
                if len(components) > slots:
                    raise ValueError(f"{name}[{index}][{role!r}] holds {len(components)}, more than {slots} slots")
                mask[index, first : first + len(components)] = True
                found += [(index, role, number, component) for number, component in enumerate(components)]
        return found, mask

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """Tokenize to one length."""
        return dict(self.tokenizer(texts, padding=self.padding, truncation=True, return_tensors="pt"))


def _fill(parts: Tensor, mask: Tensor, empty: float) -> Tensor:
    """Put parts `(n, ...)` into the n filled slots: `(N, P, ...)`."""
    slots = parts.new_full((*mask.shape, *parts.shape[1:]), empty)
    slots[mask] = parts
    return slots


def _whole_pixels(box: Box, size: tuple[int, int], where: str) -> tuple[int, int, int, int]:
    """Clip a box to an image of `size` (width, height) and widen it to whole pixels."""
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise ValueError(f"{where} must be (left, top, right, bottom) in finite pixels, got {tuple(box)}")
    left, top, right, bottom = box
    left, top = max(0, math.floor(left)), max(0, math.floor(top))
    right, bottom = min(size[0], math.ceil(right)), min(size[1], math.ceil(bottom))
    if box[0] >= box[2] or box[1] >= box[3] or left >= right or top >= bottom:
        raise ValueError(f"{where} has no area inside the image of {size[0]} x {size[1]} pixels, got {tuple(box)}")
    return left, top, right, bottom
