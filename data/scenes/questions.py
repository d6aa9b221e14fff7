"""Questions about scenes, with answers."""

import random
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from .captions import AXES, PLACE_WORDINGS, RELATION_WORDINGS, Mention
from .glyphs import NOUNS
from .graph import COLOURS, HELD_OUT, RELATIONS, SIZES, Scene, SceneObject, located, related

PAIRS = tuple(product(COLOURS, NOUNS))
NUMBERS = ("zero", "one", "two", "three", "four")


class Question(NamedTuple):
    """A question, its answer of one word, and its kind, one of `QUESTION_KINDS`."""

    text: str
    answer: str
    kind: str


def _definite(item: SceneObject) -> str:
    """Return a definite phrase, such as "the red cat"."""
    return f"the {item.colour} {item.noun}"


def _colour(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for the colour of a thing."""
    item = rng.choice(scene.objects)
    return f"what colour is the {item.noun}?", item.colour


def _object(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for the thing of a colour."""
    item = rng.choice(scene.objects)
    return f"what is {item.colour}?", item.noun


def _size(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for the size of an object."""
    item = rng.choice(scene.objects)
    return f"is {_definite(item)} small or large?", item.size


def _place(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Ask at which of two opposite sides an object lies."""
    asked = [(item, axis, place) for item in scene.objects for axis in AXES for place in axis if located(item, place)]
    if not asked:
        return None
    item, axis, answer = rng.choice(asked)
    sides = " or ".join(PLACE_WORDINGS[place][0] for place in axis)
    return f"is {_definite(item)} {sides}?", answer


def _neighbour(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the one thing that lies in some direction of an object."""
    asked = [
        (name, item, there[0])
        for item in scene.objects
        for name in RELATIONS
        if len(there := [other for other in scene.objects if related(other, name, item)]) == 1
    ]
    if not asked:
        return None
    name, item, answer = rng.choice(asked)
    return f"what is {RELATION_WORDINGS[name][0]} {_definite(item)}?", answer.noun


def _relation(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Ask whether a relation holds. With equal chance it does, or its two sides are exchanged."""
    if len(scene.objects) == 1:
        return None
    i, name, j = rng.choice(scene.relations())
    answer = rng.choice(("yes", "no"))
    # Exchanging the two sides makes a relation false without changing how likely its words are.
    i, j = (i, j) if answer == "yes" else (j, i)
    first, second = scene.objects[i], scene.objects[j]
    return f"is {_definite(first)} {RELATION_WORDINGS[name][0]} {_definite(second)}?", answer


def _count(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask how many objects there are, or how many of a size."""
    size = rng.choice((None, *SIZES))
    if size is None:
        return "how many objects are there?", NUMBERS[len(scene.objects)]
    return f"how many {size} objects are there?", NUMBERS[sum(item.size == size for item in scene.objects)]


def _exists(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask whether there is an object. With equal chance there is, or its combination is absent."""
    item = rng.choice(scene.objects)
    asked, answer = (item.colour, item.noun), rng.choice(("yes", "no"))
    if answer == "no":
        present = {(other.colour, other.noun) for other in scene.objects}
        # Held out exactly if the present object is: otherwise the words would give the answer away.
        absent = [pair for pair in PAIRS if pair not in present and (pair in HELD_OUT) == (asked in HELD_OUT)]
        colours, nouns = zip(*present, strict=True)
        near = [(colour, noun) for colour, noun in absent if colour in colours or noun in nouns]
        asked = rng.choice(near or absent)
    return f"is there {Mention(asked[1], colour=asked[0]).phrase}?", answer


_QUESTIONS: dict[str, Callable[[Scene, random.Random], tuple[str, str] | None]] = {
    "colour": _colour,
    "object": _object,
    "size": _size,
    "place": _place,
    "neighbour": _neighbour,
    "relation": _relation,
    "count": _count,
    "exists": _exists,
}
QUESTION_KINDS = tuple(_QUESTIONS)


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Ask one question of each kind that the scene allows.

    Args:
        scene (`Scene`): The scene.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `list[Question]`: Questions in random order, with answers of one word. "yes" and "no" are equally likely for any
        words of a question. A scene of one object has no question about relations.

    Example:

        >>> from compalign.data.scenes import generate_scene
        >>> for question in questions(generate_scene(13), random.Random(0))[:3]:
        ...     print(f"{question.kind}: {question.text} {question.answer}")
        relation: is the red umbrella above the yellow heart? no
        neighbour: what is below the yellow heart? umbrella
        place: is the red umbrella at the top or at the bottom? bottom
    """
    asked = [(ask(scene, rng), kind) for kind, ask in _QUESTIONS.items()]
    found = [Question(*question, kind) for question, kind in asked if question is not None]
    rng.shuffle(found)
    return found
