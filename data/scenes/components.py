"""The parts of a scene, entities and relations, with phrases and boxes."""

from itertools import combinations
from typing import NamedTuple

from .captions import RELATION_WORDINGS
from .graph import RELATIONS, Box, Scene, related


class Entity(NamedTuple):
    """A noun phrase and its box in pixels, (left, top, right, bottom), the far edge excluded."""

    phrase: str
    box: Box


class Relation(NamedTuple):
    """A phrase that relates two entities (`subject` and `object` are their indices) and the box around both."""

    phrase: str
    subject: int
    object: int
    box: Box


class Components(NamedTuple):
    """What a scene is made of."""

    entities: list[Entity]
    relations: list[Relation]


def _enclosing(first: Box, second: Box) -> Box:
    """Return the smallest box around two."""
    return *map(min, first[:2], second[:2]), *map(max, first[2:], second[2:])


def components(scene: Scene, image_size: int = 64) -> Components:
    """Return every entity of a scene and every relation between two of them.

    A pair is related once along each axis that separates it, from the object that comes first in the scene.

    Args:
        scene (`Scene`): What to take apart.
        image_size (`int`): Side of the image in pixels, the unit of the boxes.

    Returns:
        `Components`: Entities in the order of `scene.objects`; no relations where there is one object.
    """
    entities = [Entity(phrase, box) for phrase, box in scene.entities(image_size)]
    relations = [
        Relation(
            f"{entities[i].phrase} {RELATION_WORDINGS[name][0]} {entities[j].phrase}",
            i,
            j,
            _enclosing(entities[i].box, entities[j].box),
        )
        for i, j in combinations(range(len(entities)), 2)
        for name in RELATIONS
        if related(scene.objects[i], name, scene.objects[j])
    ]
    return Components(entities, relations)
