"""Scoring by ComAlign: whole images and their regions against whole captions and their phrases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import ProcessorMixin

from ...data.components import CaptionComponents, Entity, Relation
from ...data.features.encode import distinct, evaluating, image_keys, store_images, store_texts
from ...data.features.slots import ComponentSlots, SlotFeatures, read_slots
from ...data.features.store import Features
from ...modeling import ComAlignModel
from ...modeling.comalign import ComAlignOutput
from .base import TextSource, single_prompt, work_done

HEAD_BATCH = 256  # images, and captions, per forward pass of the heads

Regions = Callable[[Any], tuple[Sequence[Entity], Sequence[Relation]]]
Phrases = Callable[[Sequence[str]], list[CaptionComponents]]


@dataclass
class EncodedComponents:
    """Distinct images and captions as a `ComAlignModel` sees them, and the row of each requested one; a `Scorer`.

    Args:
        model (`ComAlignModel`): Scores the pairs.
        output (`ComAlignOutput`): Of all distinct images and captions, on the CPU.
        image_rows (`torch.LongTensor` of shape `(images,)`): Row of each requested image.
        text_rows (`torch.LongTensor` of shape `(texts,)`): Row of each requested text.
        image_keys (`list[str]`): Content hash of each requested image.
        counts (`dict[str, int]`): See `work_done`. Regions count as images encoded, phrases as texts encoded.
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
        if reason := why_not_single_items(self.model.config.score, len(image_groups)):
            raise ValueError(reason)
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
        """Compute the cosine of the global embeddings of every text and every text of the same group.

        Args:
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, C)`, float32: symmetric, in [-1, 1].
        """
        embeds = cast(Tensor, self.output.text_embeds)
        texts = embeds[self.text_rows[torch.as_tensor(text_groups)]]
        return (texts @ texts.mT).numpy()


def encode_components(
    model: ComAlignModel,
    processor: ProcessorMixin,
    images: Sequence[Any],
    texts: Sequence[TextSource],
    regions: Regions,
    phrases: Phrases,
    stores: tuple[Features, Features] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: bool = True,
) -> EncodedComponents:
    """Encode images with their regions and texts with their phrases, each distinct one once.

    Args:
        model (`ComAlignModel`): Its backbone embeds what the stores do not hold, on the device of the heads.
        processor (`ProcessorMixin`): The backbone's processor, or a `ComAlignProcessor`.
        images (sequence of images): As in `encode_references`.
        texts (sequence of `str`): Captions. A tuple of one prompt counts as its prompt.
        regions (`Callable`): Finds the entities and relations of an image; called once per distinct image.
        phrases (`Callable`): Extracts the components of captions, as `compalign.data.components.extract` does.
        stores (pair of `Features`, *optional*): Features of images and of texts, by this backbone. Default: in memory.
        batch_size (`int`): Images, and texts, per forward pass of the backbone.
        num_workers (`int`): Processes that decode images; 0 decodes in this process.
        progress (`bool`): Whether to show progress bars.

    Returns:
        `EncodedComponents`

    Raises:
        ValueError: If a text is an ensemble of several prompts, whose phrases cannot be averaged.
    """
    captions = [single_prompt(text) for text in texts]
    image_store, text_store = stores or (Features(), Features())
    keys = image_keys(images)
    first_images, image_rows = distinct(keys)
    first_captions, text_rows = distinct(captions)
    slots = model.config.entities, model.config.relations
    image_slots, text_slots = ComponentSlots(*slots), ComponentSlots(*slots)
    for position in first_images.values():
        image_slots.add_image(images[position], *regions(images[position]))
    text_slots.add_captions(phrases(list(first_captions)))
    backbone = model.backbone.to(model.device)
    encoded_images = store_images(
        backbone, processor, image_slots.parts, image_store, batch_size, num_workers, progress
    )
    encoded_texts = store_texts(backbone, processor, text_slots.parts, text_store, batch_size, progress)
    image_features = read_slots(image_store, image_slots.places(image_store.rows(encoded_images.keys)))
    text_features = read_slots(text_store, text_slots.places(text_store.rows(encoded_texts.keys)))
    with evaluating(model):
        output = _through_heads(model, image_features, text_features)
    return EncodedComponents(
        model=model,
        output=output,
        image_rows=torch.tensor(image_rows),
        text_rows=torch.tensor(text_rows),
        image_keys=keys,
        counts=work_done(images, texts, encoded_images, encoded_texts),
    )


def why_not_single_items(score: str, groups: int) -> str | None:
    """Say why ComAlign cannot score groups apart from one another, where it cannot.

    Args:
        score (`str`): `ComAlignConfig.score`.
        groups (`int`): Number of groups.

    Returns:
        `str`, or `None` if it can.
    """
    if score != "released" or groups == 1:
        return None
    return "score='released' depends on all candidates and cannot compare single items; set model.config.score='mean'"


@torch.inference_mode()
def _through_heads(model: ComAlignModel, images: SlotFeatures, texts: SlotFeatures) -> ComAlignOutput:
    """Pass all images and all captions through the heads; the output is on the CPU."""
    parts = []
    for side, found in (("image", images), ("text", texts)):
        for start in range(0, len(found.whole), HEAD_BATCH):
            whole, _, components, mask = (value[start : start + HEAD_BATCH].to(model.device) for value in found)
            parts.append(model(**{f"{side}_global": whole, f"{side}_components": components, f"{side}_mask": mask}))
    joined = {
        field.name: torch.cat(values).cpu() if values[0].dim() else values[0].cpu()
        for field in fields(ComAlignOutput)
        if (values := [value for part in parts if (value := getattr(part, field.name)) is not None])
    }
    return ComAlignOutput(**joined)
