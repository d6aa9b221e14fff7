"""Negative captions of scenes, of the seven SugarCrepe kinds: edits of a statement, checked to be false."""

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from .captions import ATTRIBUTES, Caption, Mention, Statement, find, holds
from .graph import COLOURS, MAX_OBJECTS, PATTERNS, RELATIONS, SHAPES, SIZES, Scene

VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "pattern": PATTERNS}


def _shuffled(options: Iterable, rng: random.Random) -> list:
    """Return the options in random order."""
    options = list(options)
    rng.shuffle(options)
    return options


def rewritten(statement: Statement, changes: dict[int, Mention]) -> Statement:
    """Replace the mentions at some indices."""
    return statement._replace(mentions=tuple(changes.get(k, old) for k, old in enumerate(statement.mentions)))


def _unsaid(statement: Statement, attribute: str) -> list[str]:
    """Return the values that a mention may take. Shapes and colours are distinct in a scene, so also in a statement."""
    if attribute in ("size", "pattern"):
        return list(VALUES[attribute])
    said = {getattr(mention, attribute) for mention in statement.mentions}
    return [value for value in VALUES[attribute] if value not in said]


def changes_of(
    scene: Scene, statement: Statement, slots: list[tuple[int, str]], rng: random.Random
) -> Iterator[Statement]:
    """Yield statements in which one of the slots (mention, attribute) has a value that its object does not have."""
    for index, attribute in _shuffled(slots, rng):
        mention = statement.mentions[index]
        actual = getattr(find(scene, mention), attribute)
        for value in _shuffled(_unsaid(statement, attribute), rng):
            if value != actual:
                yield rewritten(statement, {index: mention._replace(**{attribute: value})})


def attribute_slots(statement: Statement, said: bool) -> list[tuple[int, str]]:
    """Return the slots (mention, attribute) that a statement fills, or those that it leaves open."""
    return [
        (index, attribute)
        for index, mention in enumerate(statement.mentions)
        for attribute in ATTRIBUTES
        if (getattr(mention, attribute) is not None) == said
    ]


def _replace_object(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Name another shape."""
    return changes_of(scene, statement, [(index, "shape") for index in range(len(statement.mentions))], rng)


def _replace_attribute(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Give a stated attribute another value."""
    return changes_of(scene, statement, attribute_slots(statement, said=True), rng)


def _add_attribute(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """State a further attribute falsely."""
    return changes_of(scene, statement, attribute_slots(statement, said=False), rng)


def _replace_relation(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """State another direction."""
    if statement.relation is not None:
        for relation in _shuffled(RELATIONS, rng):
            yield statement._replace(relation=relation)


def _swap_object(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Exchange the two sides of the relation, or the nouns of two mentions while their attributes stay."""
    mentions = statement.mentions
    swaps = [
        {i: mentions[i]._replace(shape=mentions[j].shape), j: mentions[j]._replace(shape=mentions[i].shape)}
        for i, j in combinations(range(len(mentions)), 2)
    ]
    if statement.relation is not None:
        swaps.append({0: mentions[1], 1: mentions[0]})
    for swap in _shuffled(swaps, rng):
        yield rewritten(statement, swap)


def _swap_attribute(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Exchange an attribute that two mentions state differently."""
    mentions = statement.mentions
    slots = [
        (i, j, attribute)
        for i, j in combinations(range(len(mentions)), 2)
        for attribute in ATTRIBUTES
        if None not in (getattr(mentions[i], attribute), getattr(mentions[j], attribute))
    ]
    for i, j, attribute in _shuffled(slots, rng):
        first, second = getattr(mentions[i], attribute), getattr(mentions[j], attribute)
        changes = {i: mentions[i]._replace(**{attribute: second}), j: mentions[j]._replace(**{attribute: first})}
        yield rewritten(statement, changes)


def _add_object(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Mention a further object that is absent, in the detail of one of the others.

    No scene has more than `MAX_OBJECTS` objects, so a longer list could be rejected without the image.
    """
    if len(statement.mentions) < MAX_OBJECTS:
        yield from with_foil(statement, rng.choice(statement.mentions), rng)


def with_foil(statement: Statement, like: Mention, rng: random.Random) -> Iterator[Statement]:
    """Append a random mention that states the same attributes as `like`. It may be true by chance."""
    for shape in _shuffled(_unsaid(statement, "shape"), rng):
        attributes = {name: rng.choice(_unsaid(statement, name)) for name in ATTRIBUTES if getattr(like, name)}
        yield statement._replace(mentions=(*statement.mentions, Mention(shape, **attributes)))


_EDITS: dict[str, Callable[[Scene, Statement, random.Random], Iterator[Statement]]] = {
    "replace_object": _replace_object,
    "replace_attribute": _replace_attribute,
    "replace_relation": _replace_relation,
    "swap_object": _swap_object,
    "swap_attribute": _swap_attribute,
    "add_object": _add_object,
    "add_attribute": _add_attribute,
}
NEGATIVE_KINDS = tuple(_EDITS)


def first_false(scene: Scene, candidates: Iterator[Statement]) -> Statement | None:
    """Return the first candidate that is false of the scene and could be true of a training scene.

    A held-out combination is mentioned only if the scene has one too. Otherwise it would mark a caption as false.
    """
    for candidate in candidates:
        foreign = not scene.held_out and any(mention.held_out for mention in candidate.mentions)
        if not foreign and not holds(scene, candidate):
            return candidate
    return None


def negative_statement(scene: Scene, statement: Statement, kind: str, rng: random.Random) -> Statement | None:
    """Edit a true statement into a false one.

    Args:
        scene (`Scene`): The scene.
        statement (`Statement`): A statement that is true of the scene.
        kind (`str`): One of `NEGATIVE_KINDS`.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `Statement`, *optional*: A statement that is false of the scene, or None if no edit of this kind is false.

    Raises:
        ValueError: If `kind` is unknown.

    Reference:
        The kinds of SugarCrepe, https://huggingface.co/papers/2306.14610.
    """
    if kind not in _EDITS:
        raise ValueError(f"kind is {kind!r}; accepted: {', '.join(NEGATIVE_KINDS)}")
    return first_false(scene, _EDITS[kind](scene, statement, rng))


def negative_caption(scene: Scene, caption: Caption, kind: str, rng: random.Random) -> str | None:
    """Return a false caption in the sentence form of a true one, or None. See `negative_statement`."""
    statement = negative_statement(scene, caption.statement, kind, rng)
    return None if statement is None else caption._replace(statement=statement).text
