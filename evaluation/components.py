"""Scoring with ComAlign: images by their regions and captions by their phrases, on the benchmarks of dual encoders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import ProcessorMixin

from ..data.component_features import ComponentSlots, SlotFeatures, read_slots
from ..data.components import CaptionComponents, Entity, Relation
from ..data.encoding import Encoded, image_keys, store_images, store_texts
from ..data.feature_store import Features
from ..modeling import ComAlignModel
from ..modeling.comalign import ComAlignOutput
from .encoding import distinct_rows, single_prompt

BATCH = 256  # images, and captions, that pass through the heads at a time


@dataclass
class EncodedComponents:
    """Distinct images and captions as a `ComAlignModel` sees them, and where each requested one is found.

    Args:
        model (`ComAlignModel`): Scores the pairs.
        output (`ComAlignOutput`): Of all distinct images and captions, on the CPU.
        image_rows (`torch.LongTensor` of shape `(images,)`): Row of each requested image.
        text_rows (`torch.LongTensor` of shape `(texts,)`): Row of each requested text.
        image_keys (`list[str]`): Content hash of each requested image.
        counts (`dict[str, int]`): How much was asked for and how much was done.
    """

    model: ComAlignModel
    output: ComAlignOutput
    image_rows: Tensor
    text_rows: Tensor
    image_keys: list[str]
    counts: dict[str, int]

    @torch.inference_mode()
    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Score every text with every image of the same group: the mean of the scores in both directions.

        Args:
            image_groups (`numpy.ndarray` of shape `(groups, I)`): Positions in the requested images.
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, I)`, float32: `scores[group, text, image]`.

        Raises:
            ValueError: If there are several groups and the model's score of a pair depends on the other candidates.
        """
        if self.model.config.score == "released" and len(image_groups) > 1:
            raise ValueError(
                "score='released' depends on all candidates and cannot compare single items; set model.config.score "
                "to 'mean'"
            )
        scores = [self.directions(images, texts) for images, texts in zip(image_groups, text_groups, strict=True)]
        return torch.stack([(one_way.T + other_way) / 2 for one_way, other_way in scores]).numpy()

    def directions(self, images: Sequence[int], texts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Score images with texts in both directions: `(I, C)` and `(C, I)`; see `ComAlignModel.score`."""
        image, text = self.image_rows[torch.as_tensor(images)], self.text_rows[torch.as_tensor(texts)]
        chosen = {
            field.name: value[image if "image" in field.name else text] if value.dim() else value
            for field in fields(self.output)
            if (value := getattr(self.output, field.name)) is not None
        }
        return self.model.score(ComAlignOutput(**chosen))

    def text_scores(self, text_groups: np.ndarray) -> np.ndarray:
        """Compute the cosine of every text with every text of the same group, `(groups, C, C)`, by their globals."""
        texts = self.output.text_embeds[self.text_rows[torch.as_tensor(text_groups)]]
        return (texts @ texts.mT).numpy()


def encode_components(
    model: ComAlignModel,
    processor: ProcessorMixin,
    images: Sequence[Any],
    texts: Sequence[str | tuple[str, ...]],
    regions: Callable[[Any], tuple[Sequence[Entity], Sequence[Relation]]],
    phrases: Callable[[Sequence[str]], list[CaptionComponents]],
    stores: tuple[Features, Features] | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> EncodedComponents:
    """Encode images with their regions and texts with their phrases, each distinct one once.

    Args:
        model (`ComAlignModel`): Its backbone embeds what the stores do not hold.
        processor (`ProcessorMixin`): The backbone's, or the `ComAlignProcessor` made of it.
        images (sequence of images): As for `encode_references`.
        texts (sequence of `str`): Captions; a tuple of one prompt counts as its prompt.
        regions (`Callable`): Finds the entities and relations of an image; called once for each distinct one.
        phrases (`Callable`): Takes captions apart, such as `compalign.data.components.extract`.
        stores (pair of `Features`, *optional*): Of images and of texts, of this backbone. Default: in memory.
        batch_size (`int`): Images, and texts, a forward pass of the backbone.
        progress (`bool`): Whether to show progress bars.

    Raises:
        ValueError: If a text is an ensemble of several prompts, whose phrases cannot be averaged.
    """
    texts = [single_prompt(text) for text in texts]
    image_store, text_store = stores or (Features(), Features())
    options = {"batch_size": batch_size, "progress": progress}
    keys = image_keys(images)
    first, image_rows = distinct_rows(keys)
    slots = model.config.entities, model.config.relations
    image_slots, text_slots = ComponentSlots(*slots), ComponentSlots(*slots)
    for place in first:
        image_slots.add_image(images[place], *regions(images[place]))
    captions, text_rows = distinct_rows(texts)
    text_slots.add_captions(phrases([texts[place] for place in captions]))
    seen = store_images(model.backbone, processor, image_slots.parts, image_store, **options)
    read = store_texts(model.backbone, processor, text_slots.parts, text_store, **options)
    image_features = read_slots(image_store, image_slots.places(image_store.rows(seen.keys)))
    text_features = read_slots(text_store, text_slots.places(text_store.rows(read.keys)))
    return EncodedComponents(
        model=model,
        output=_through_heads(model.eval(), image_features, text_features),
        image_rows=torch.tensor(image_rows),
        text_rows=torch.tensor(text_rows),
        image_keys=keys,
        counts=_counts(images, texts, seen, read),
    )


@torch.inference_mode()
def _through_heads(model: ComAlignModel, images: SlotFeatures, texts: SlotFeatures) -> ComAlignOutput:
    """The heads' output for all images and all captions, on the CPU."""
    parts = []
    for side, found in (("image", images), ("text", texts)):
        for start in range(0, len(found.whole), BATCH):
            whole, _, components, mask = (value[start : start + BATCH].to(model.device) for value in found)
            parts.append(model(**{f"{side}_global": whole, f"{side}_components": components, f"{side}_mask": mask}))
    joined = {
        field.name: torch.cat(values).cpu() if values[0].dim() else values[0].cpu()
        for field in fields(ComAlignOutput)
        if (values := [value for part in parts if (value := getattr(part, field.name)) is not None])
    }
    return ComAlignOutput(**joined)


def _counts(images: Sequence, texts: Sequence, seen: Encoded, read: Encoded) -> dict[str, int]:
    """How much was asked for and how much was done, regions and phrases included."""
    return {
        "images_requested": len(images),
        "images_encoded": seen.encoded,
        "image_batches": seen.batches,
        "texts_requested": len(texts),
        "texts_encoded": read.encoded,
        "text_batches": read.batches,
        "texts_truncated": read.truncated,
    }
