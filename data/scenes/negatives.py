"""Negative captions of scenes, of the seven SugarCrepe kinds: edits of a statement, checked to be false."""

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from .captions import ATTRIBUTES, Caption, Mention, Statement, clearly_false, find
from .glyphs import NOUNS
from .graph import COLOURS, MAX_OBJECTS, PLACES, RELATIONS, SIZES, Scene

VALUES = {"noun": NOUNS, "colour": COLOURS, "size": SIZES}


def _shuffled(options: Iterable, rng: random.Random) -> list:
    """Return the options in random order."""
    options = list(options)
    rng.shuffle(options)
    return options


def rewritten(statement: Statement, changes: dict[int, Mention]) -> Statement:
    """Replace the mentions at some indices."""
    return statement._replace(mentions=tuple(changes.get(k, old) for k, old in enumerate(statement.mentions)))


def _unsaid(statement: Statement, attribute: str) -> list[str]:
    """Return the values that a mention may take. Nouns and colours are distinct in a scene, so also in a statement."""
    if attribute == "size":
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
    """Name another noun."""
    return changes_of(scene, statement, [(index, "noun") for index in range(len(statement.mentions))], rng)


def _replace_attribute(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Give a stated attribute another value."""
    return changes_of(scene, statement, attribute_slots(statement, said=True), rng)


def _add_attribute(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """State a further attribute falsely."""
    return changes_of(scene, statement, attribute_slots(statement, said=False), rng)


def _replace_relation(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """State another direction, or another place of one of the objects."""
    if statement.relation is not None:
        for relation in _shuffled(RELATIONS, rng):
            yield statement._replace(relation=relation)
    placed = [(index, place) for index, mention in enumerate(statement.mentions) if mention.place for place in PLACES]
    for index, place in _shuffled(placed, rng):
        yield rewritten(statement, {index: statement.mentions[index]._replace(place=place)})


def _swap_object(scene: Scene, statement: Statement, rng: random.Random) -> Iterator[Statement]:
    """Exchange the nouns of two mentions while their attributes stay, or two objects over a relation or two places."""
    mentions = statement.mentions
    swaps = []
    for i, j in combinations(range(len(mentions)), 2):
        first, second = mentions[i], mentions[j]
        swaps.append({i: first._replace(noun=second.noun), j: second._replace(noun=first.noun)})
        if first.place != second.place or (statement.relation is not None and (i, j) == (0, 1)):
            swaps.append({i: second._replace(place=first.place), j: first._replace(place=second.place)})
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
    """Append a random mention of another noun that states the same attributes as `like`. It may be true by chance."""
    for noun in _shuffled((noun for noun in _unsaid(statement, "noun") if noun != like.noun), rng):
        attributes = {name: rng.choice(_unsaid(statement, name)) for name in ATTRIBUTES if getattr(like, name)}
        place = rng.choice(list(PLACES)) if like.place else None
        yield statement._replace(mentions=(*statement.mentions, Mention(noun, place=place, **attributes)))


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
    """Return the first candidate that is clearly false of the scene and could be true of a training scene.

    A held-out combination is mentioned only if the scene has one too. Otherwise it would mark a caption as false.
    """
    for candidate in candidates:
        foreign = not scene.held_out and any(mention.held_out for mention in candidate.mentions)
        if not foreign and clearly_false(scene, candidate):
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
