"""Frozen features of images, captions and their components: encoded once, then read by their place in a store."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from ..data.component_features import EMPTY, ComponentSlots, read_slots
from ..data.encoding import store_images, store_texts
from ..data.feature_store import Features


class ComponentFeatureRows(Dataset):
    """Images with their captions, as places in two feature stores.

    Every distinct image, region, caption and phrase is encoded once, or not at all where a store knows it. An item has
    `image_slots` (`numpy.ndarray` of shape `(1 + P,)`), `caption_slots` (a list of such arrays, `(1 + Q,)` each) and
    `negative_slots` (likewise): the place of the whole, then those of its entities, then those of its relations; -1
    where there are fewer.

    Args:
        rows (sequence of `dict`): With `image`, `entities`, `relations`, `captions` and optionally `negative_captions`,
            as from `load_components` or `SceneComponentDataset`; at least one caption each.
        backbone (`PreTrainedModel`): The frozen dual encoder.
        processor (`ProcessorMixin`): Its processor.
        image_features, text_features (`Features`): Stores to read from and to add to, of this encoder.
        entities, relations (`int`): Slots of each; components beyond them are left out.
        options: `batch_size`, `progress`, as for `store_images`.

    Raises:
        ValueError: If there is no row, or one has no caption.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        backbone: PreTrainedModel,
        processor: ProcessorMixin,
        image_features: Features,
        text_features: Features,
        entities: int = 10,
        relations: int = 10,
        **options: Any,
    ):
        self.image_features, self.text_features = image_features, text_features
        images, texts = ComponentSlots(entities, relations), ComponentSlots(entities, relations)
        self._captions: list[tuple[range, range]] = []  # of each row: its captions and its negatives among the texts
        for number, row in enumerate(rows):
            if not row["captions"]:
                raise ValueError(f"row {number} ({row.get('image_id', 'no name')}) has no caption")
            images.add_image(row["image"], row["entities"], row["relations"])
            captions = texts.add_captions(row["captions"])
            self._captions.append((captions, texts.add_captions(row.get("negative_captions") or ())))
        if not self._captions:
            raise ValueError("there is no row to encode")
        image_keys = store_images(backbone, processor, images.parts, image_features, **options).keys
        text_keys = store_texts(backbone, processor, texts.parts, text_features, **options).keys
        self._images = images.places(image_features.rows(image_keys))
        self._texts = texts.places(text_features.rows(text_keys))

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        captions, negatives = self._captions[index]
        return {
            "image_slots": self._images[index],
            "caption_slots": [self._texts[place] for place in captions],
            "negative_slots": [self._texts[place] for place in negatives],
        }


@dataclass
class ComponentCollator:
    """Reads the features of a batch from the stores; which caption of several is drawn is a function of the epoch.

    With B rows, K negatives, P and Q component slots and embedding width D:

    ```
    image_components (B, P, D)        zero where empty
    image_global     (B, D)
    image_mask       (B, P)           1 where the slot holds a component
    image_exists     (B,)             1
    text_components  (B*(1+K), Q, D)  the captions first, then the negatives of row 0, of row 1, ...
    text_global      (B*(1+K), D)
    text_mask        (B*(1+K), Q)
    text_exists      (B*(1+K),)       0 for a negative that its row lacks
    row              (B,)             where each sample stands in the dataset
    ```

    Args:
        image_features, text_features (`Features`): The stores that the rows point into.
        num_negatives (`int`): K. A row with fewer is filled with slots that do not exist.
        seed (`int`): Root of the choice of captions.
    """

    image_features: Features
    text_features: Features
    num_negatives: int = 0
    seed: int = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        draws = [random.Random(f"caption/{self.seed}/{row['epoch']}/{row['row']}") for row in rows]
        captions = [draw.choice(row["caption_slots"]) for draw, row in zip(draws, rows, strict=True)]
        nothing = np.full_like(captions[0], EMPTY)
        negatives = [
            slots
            for row in rows
            for slots in (*row["negative_slots"], *[nothing] * self.num_negatives)[: self.num_negatives]
        ]
        return {
            **_inputs(self.image_features, np.stack([row["image_slots"] for row in rows]), "image"),
            **_inputs(self.text_features, np.stack([*captions, *negatives]), "text"),
            "row": torch.tensor([row["row"] for row in rows]),
        }


def _inputs(features: Features, slots: np.ndarray, side: str) -> dict[str, Tensor]:
    """The model's inputs of one side."""
    found = read_slots(features, slots)
    names = {"global": found.whole, "components": found.components, "mask": found.mask, "exists": found.exists}
    return {f"{side}_{name}": value for name, value in names.items()}
