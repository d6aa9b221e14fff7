"""Questions about scenes, with answers."""

import random
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from .captions import RELATION_WORDINGS
from .graph import COLOURS, HELD_OUT, PATTERNS, RELATIONS, SHAPES, Scene, SceneObject, related

PAIRS = tuple(product(COLOURS, SHAPES))
NUMBERS = ("zero", "one", "two", "three", "four")


class Question(NamedTuple):
    """A question, its answer of one word, and its kind, one of `QUESTION_KINDS`."""

    text: str
    answer: str
    kind: str


def _definite(item: SceneObject) -> str:
    """Return a definite phrase, such as "the red circle"."""
    return f"the {item.colour} {item.shape}"


def _colour(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for the colour of a shape."""
    item = rng.choice(scene.objects)
    return f"what colour is the {item.shape}?", item.colour


def _pattern(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask for the pattern of an object."""
    item = rng.choice(scene.objects)
    return f"is {_definite(item)} solid, striped or dotted?", item.pattern


def _shape(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Ask for the one shape that lies in some direction of an object."""
    asked = [
        (name, item, there[0])
        for item in scene.objects
        for name in RELATIONS
        if len(there := [other for other in scene.objects if related(other, name, item)]) == 1
    ]
    if not asked:
        return None
    name, item, answer = rng.choice(asked)
    return f"what shape is {RELATION_WORDINGS[name][0]} {_definite(item)}?", answer.shape


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
    """Ask how many objects there are, or how many with a pattern."""
    pattern = rng.choice((None, *PATTERNS))
    if pattern is None:
        return "how many objects are there?", NUMBERS[len(scene.objects)]
    return f"how many {pattern} objects are there?", NUMBERS[sum(item.pattern == pattern for item in scene.objects)]


def _exists(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Ask whether there is an object. With equal chance there is, or its combination is absent."""
    item = rng.choice(scene.objects)
    asked, answer = (item.colour, item.shape), rng.choice(("yes", "no"))
    if answer == "no":
        present = {(other.colour, other.shape) for other in scene.objects}
        # Held out exactly if the present object is: otherwise the words would give the answer away.
        absent = [pair for pair in PAIRS if pair not in present and (pair in HELD_OUT) == (asked in HELD_OUT)]
        colours, shapes = zip(*present, strict=True)
        near = [(colour, shape) for colour, shape in absent if colour in colours or shape in shapes]
        asked = rng.choice(near or absent)
    return f"is there a {asked[0]} {asked[1]}?", answer


_QUESTIONS: dict[str, Callable[[Scene, random.Random], tuple[str, str] | None]] = {
    "colour": _colour,
    "pattern": _pattern,
    "shape": _shape,
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
        >>> for question in questions(generate_scene(3), random.Random(0))[:3]:
        ...     print(f"{question.kind}: {question.text} {question.answer}")
        shape: what shape is to the right of the pink square? diamond
        colour: what colour is the diamond? green
        relation: is the pink square to the right of the green diamond? no
    """
    asked = [(ask(scene, rng), kind) for kind, ask in _QUESTIONS.items()]
    found = [Question(*question, kind) for question, kind in asked if question is not None]
    rng.shuffle(found)
    return found
