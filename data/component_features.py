"""Slots of components: where the parts of images and captions stand among the features of a frozen encoder."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .components import CaptionComponents, Entity, Relation
from .feature_store import Features
from .images import ImageCrop

EMPTY = -1  # a slot without a component


class ComponentSlots:
    """What has to be encoded for the images, or for the captions, and which slot of which item each part fills.

    An item has one slot for the whole, then `entities` slots, then `relations` slots; components beyond them are left
    out.

    Args:
        entities, relations (`int`): Slots of each, >= 0.

    Attributes:
        parts (`list`): Wholes and components of all items, as an encoder takes them.
    """

    def __init__(self, entities: int, relations: int):
        self.most = (entities, relations)
        self.parts: list[Any] = []
        self._filled: list[np.ndarray] = []  # of each item: the part in each slot

    def __len__(self) -> int:
        return len(self._filled)

    def add_image(self, image: Any, entities: Sequence[Entity], relations: Sequence[Relation]) -> None:
        """Add an image with its regions."""
        self._add(image, *([ImageCrop(image, part.box) for part in role] for role in (entities, relations)))

    def add_captions(self, captions: Iterable[CaptionComponents]) -> range:
        """Add captions with their phrases, and return where they stand among the items."""
        first = len(self)
        for caption in captions:
            self._add(*caption)
        return range(first, len(self))

    def _add(self, whole: Any, entities: Sequence[Any], relations: Sequence[Any]) -> None:
        """Add an item with its components, as many as there are slots for."""
        slots = np.full(1 + sum(self.most), EMPTY)
        first = 0
        for role, most in zip(([whole], entities, relations), (1, *self.most), strict=True):
            chosen = role[:most]
            slots[first : first + len(chosen)] = np.arange(len(self.parts), len(self.parts) + len(chosen))
            self.parts += chosen
            first += most
        self._filled.append(slots)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Put the place of each part into its slot.

        Args:
            rows (`numpy.ndarray` of shape `(parts,)`): Where a store keeps each of `parts`.

        Returns:
            `numpy.ndarray` of shape `(items, 1 + slots)`: -1 where a slot is empty.
        """
        return np.append(rows, EMPTY)[np.stack(self._filled)]


class SlotFeatures(NamedTuple):
    """Features of N items with P component slots each, zero where a slot is empty.

    Args:
        whole (`torch.Tensor` of shape `(N, D)`): Of the images, or of the captions.
        exists (`torch.BoolTensor` of shape `(N,)`): Whether there is such an item.
        components (`torch.Tensor` of shape `(N, P, D)`): Of their entities, then of their relations.
        mask (`torch.BoolTensor` of shape `(N, P)`): Whether the slot holds a component.
    """

    whole: Tensor
    exists: Tensor
    components: Tensor
    mask: Tensor


def read_slots(features: Features, slots: np.ndarray) -> SlotFeatures:
    """Read the features of items.

    Args:
        features (`Features`): The store that the slots point into.
        slots (`numpy.ndarray` of shape `(N, 1 + P)`): As `ComponentSlots.places` makes them.

    Returns:
        `SlotFeatures`, as the encoder projects them.
    """
    filled = torch.from_numpy(slots != EMPTY)
    found = features.take(slots[slots != EMPTY])
    values = found.new_zeros(*filled.shape, found.shape[-1])
    values[filled] = found
    return SlotFeatures(values[:, 0], filled[:, 0], values[:, 1:], filled[:, 1:])
