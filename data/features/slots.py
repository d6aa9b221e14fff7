"""Slots of components: the places of an item's entities and relations among the features of a frozen encoder."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..components import CaptionComponents, Entity, Relation
from ..images import ImageCrop
from .store import Features

EMPTY = -1  # a slot without a component


class ComponentSlots:
    """Collects the parts of images, or of captions, that have to be encoded, and the slot that each part fills.

    An item, which is an image or a caption, has one slot for the whole, then `entities` slots, then `relations` slots.
    Components beyond these are left out.

    Args:
        entities, relations (`int`): Number of slots for each, >= 0.

    Attributes:
        parts (`list`): Wholes and components of all items, as inputs of an encoder.

    Example:

        >>> from compalign.data.components import CaptionComponents
        >>> slots = ComponentSlots(entities=2, relations=1)
        >>> slots.add_captions([CaptionComponents("a dog on a mat", ["dog", "mat"], ["dog on a mat"])])
        range(0, 1)
        >>> slots.parts
        ['a dog on a mat', 'dog', 'mat', 'dog on a mat']
    """

    def __init__(self, entities: int, relations: int):
        self.most = (entities, relations)
        self.parts: list[Any] = []
        self._filled: list[np.ndarray] = []  # per item: the index of the part in each slot

    def __len__(self) -> int:
        return len(self._filled)

    def add_image(self, image: Any, entities: Sequence[Entity], relations: Sequence[Relation]) -> None:
        """Add an image with its regions."""
        self._add(image, *([ImageCrop(image, part.box) for part in role] for role in (entities, relations)))

    def add_captions(self, captions: Iterable[CaptionComponents]) -> range:
        """Add captions with their phrases, and return their range among the items."""
        first = len(self)
        for caption in captions:
            self._add(*caption)
        return range(first, len(self))

    def _add(self, whole: Any, entities: Sequence[Any], relations: Sequence[Any]) -> None:
        """Add an item with as many of its components as there are slots."""
        slots = np.full(1 + sum(self.most), EMPTY)
        first = 0
        for role, most in zip(([whole], entities, relations), (1, *self.most), strict=True):
            chosen = role[:most]
            slots[first : first + len(chosen)] = np.arange(len(self.parts), len(self.parts) + len(chosen))
            self.parts += chosen
            first += most
        self._filled.append(slots)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Put the row of each part in a store into its slot.

        Args:
            rows (`numpy.ndarray` of shape `(parts,)`): Row in the store of each of `parts`.

        Returns:
            `numpy.ndarray` of shape `(items, 1 + slots)`: the row in each slot, -1 if the slot is empty.
        """
        return np.append(rows, EMPTY)[np.stack(self._filled)]


class SlotFeatures(NamedTuple):
    """Features of N items with P component slots each. Empty slots are zero.

    Args:
        whole (`torch.Tensor` of shape `(N, D)`): Features of the images or captions.
        exists (`torch.BoolTensor` of shape `(N,)`): True if there is such an item.
        components (`torch.Tensor` of shape `(N, P, D)`): Features of their entities, then of their relations.
        mask (`torch.BoolTensor` of shape `(N, P)`): True if the slot holds a component.
    """

    whole: Tensor
    exists: Tensor
    components: Tensor
    mask: Tensor


def read_slots(features: Features, slots: np.ndarray) -> SlotFeatures:
    """Read the features of items.

    Args:
        features (`Features`): The store whose rows are in the slots.
        slots (`numpy.ndarray` of shape `(N, 1 + P)`): Rows from `ComponentSlots.places`.

    Returns:
        `SlotFeatures`: The features, as the encoder projects them.

    Example:

        >>> import hashlib
        >>> from compalign.data.components import CaptionComponents
        >>> slots = ComponentSlots(entities=2, relations=0)
        >>> items = slots.add_captions([CaptionComponents("a dog", ["dog"], [])])
        >>> keys = [hashlib.sha256(part.encode()).hexdigest() for part in slots.parts]
        >>> features = Features()
        >>> features.append(keys, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> read_slots(features, slots.places(features.rows(keys)))
        SlotFeatures(whole=tensor([[1., 2.]]), exists=tensor([True]), components=tensor([[[3., 4.],
                 [0., 0.]]]), mask=tensor([[ True, False]]))
    """
    filled = torch.from_numpy(slots != EMPTY)
    found = features.take(slots[slots != EMPTY])
    values = found.new_zeros(*filled.shape, found.shape[-1])
    values[filled] = found
    return SlotFeatures(values[:, 0], filled[:, 0], values[:, 1:], filled[:, 1:])
