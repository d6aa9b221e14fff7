"""Items of benchmarks on generated scenes: caption choice, retrieval and zero-shot classification."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import NamedTuple

from .captions import Caption, Mention, Statement, clearly_false, find, full_caption, holds, paraphrase
from .glyphs import NOUNS
from .graph import (
    COLOURS,
    DIRECTIONS,
    HELD_OUT,
    MAX_OBJECTS,
    PLACES,
    Scene,
    SceneObject,
    clearly_apart,
    generate_scene,
    place_objects,
    radius_range,
)
from .negatives import attribute_slots, changes_of, first_false, negative_statement, rewritten, with_foil


@dataclass(frozen=True)
class CompositionItem:
    """A scene with a true and a false caption.

    Args:
        scene (`Scene`): The scene to draw.
        caption (`str`): True of the scene.
        negative (`str`): False of the scene.
        paraphrase (`str`): Says the same as the caption in other words.
        kind (`str`): One of `NEGATIVE_KINDS`.
        changed (`str`): The part of the caption that the negative changes: "noun", "colour", "size", "place" or
            "relation". An exchange of two objects over a relation or over two places counts as a change of those.
        pair (`int`): Number of the pair. The other item with this number has the same two captions, exchanged.
    """

    scene: Scene
    caption: str
    negative: str
    paraphrase: str
    kind: str
    changed: str
    pair: int


class RetrievalItem(NamedTuple):
    """A scene and a caption that no other item has."""

    scene: Scene
    caption: str


class ZeroShotLabel(NamedTuple):
    """A class of the zero-shot benchmark. `held_out` is true if training never shows it."""

    colour: str
    noun: str
    prompt: str
    held_out: bool


class ZeroShotItem(NamedTuple):
    """A scene of one object and the index of its class in `zero_shot_labels()`."""

    scene: Scene
    label: int


def _contrast(scene: Scene, kind: str, rng: random.Random) -> tuple[Caption, Caption] | None:
    """Return a true and a false caption that differ by `kind`, or None if the scene does not allow it."""
    caption = full_caption(scene, rng)
    true = caption.statement
    if kind == "add_object":
        # Both captions end with an additional object. If the true one were shorter, its length would give it away.
        base = true._replace(mentions=true.mentions[:-1])
        if len(base.mentions) < (1 if true.relation is None else 2):
            return None
        false = first_false(scene, with_foil(base, true.mentions[-1], rng))
    elif kind == "add_attribute":
        # Both captions state an additional attribute, for the same reason.
        slots = attribute_slots(true, said=False)
        if not slots:
            return None
        index, attribute = rng.choice(slots)
        false = first_false(scene, changes_of(scene, true, [(index, attribute)], rng))
        mention = true.mentions[index]
        actual = getattr(find(scene, mention), attribute)
        true = rewritten(true, {index: mention._replace(**{attribute: actual})})
    else:
        false = negative_statement(scene, true, kind, rng)
    return None if false is None else (caption._replace(statement=true), caption._replace(statement=false))


def _turned(item: SceneObject, before: tuple[int, int], after: tuple[int, int]) -> SceneObject:
    """Reflect the object's place, so that what lay in one direction lies in the other, and the other way round."""
    x, y = item.centre
    if sum(before) == sum(after):
        centre = y, x
    elif before[0] == after[0]:
        centre = x, 1 - y
    elif before[1] == after[1]:
        centre = 1 - x, y
    else:
        centre = 1 - y, 1 - x
    return replace(item, centre=centre)


def _resized(item: SceneObject, size: str, num_objects: int) -> SceneObject:
    """Give the object another size, with a radius at the same relative position in the range of that size."""
    low, high = radius_range(item.size, num_objects)
    new_low, new_high = radius_range(size, num_objects)
    radius = new_low + (item.radius - low) / (high - low) * (new_high - new_low)
    return replace(item, size=size, radius=radius)


def _repainted(item: SceneObject, old: Mention, new: Mention, num_objects: int) -> SceneObject:
    """Change the object that a mention describes so that another mention describes it; what neither says stays."""
    if new.size not in (None, item.size):
        item = _resized(item, new.size, num_objects)
    if old.place and new.place and old.place != new.place:
        item = _turned(item, PLACES[old.place], PLACES[new.place])
    return replace(item, noun=new.noun, colour=new.colour or item.colour)


def _is_scene(objects: tuple[SceneObject, ...]) -> bool:
    """Return whether the objects form a valid scene: distinct, inside the image, clearly apart."""
    return (
        len({item.noun for item in objects}) == len({item.colour for item in objects}) == len(objects)
        and all(item.radius <= centre <= 1 - item.radius for item in objects for centre in item.centre)
        and all(clearly_apart(a.centre, b.centre, a.radius + b.radius) for a, b in combinations(objects, 2))
    )


def _counterpart(scene: Scene, true: Statement, false: Statement) -> Scene | None:
    """Change the scene as little as possible so that the two statements exchange their truth, or return None."""
    objects: tuple[SceneObject, ...]
    if true.relation is not None and false.relation is not None and true.relation != false.relation:
        objects = tuple(_turned(item, DIRECTIONS[true.relation], DIRECTIONS[false.relation]) for item in scene.objects)
    else:
        pairs = zip(true.mentions, false.mentions, strict=True)
        wanted = {item.noun: (old, new) for old, new in pairs if (item := find(scene, old)) is not None}
        objects = tuple(
            _repainted(item, *wanted[item.noun], len(scene.objects)) if item.noun in wanted else item
            for item in scene.objects
        )
    other = replace(scene, objects=objects)
    return other if _is_scene(objects) and holds(other, false) and clearly_false(other, true) else None


def _pairs(kind: str, split: str, rng: random.Random) -> Iterator[tuple[CompositionItem, CompositionItem]]:
    """Yield endless pairs of items: two captions, and for each caption a scene of which it is true."""
    number = 0
    while True:
        scene = generate_scene(rng.getrandbits(48), split=split)
        captions = _contrast(scene, kind, rng)
        if captions is None:
            continue
        true, false = captions
        other = _counterpart(scene, true.statement, false.statement)
        if other is None:
            continue
        changed = changed_part(true.statement, false.statement)
        pair = [
            CompositionItem(drawn, told.text, untrue.text, paraphrase(told, rng).text, kind, changed, number)
            for drawn, told, untrue in ((scene, true, false), (other, false, true))
        ]
        rng.shuffle(pair)
        yield pair[0], pair[1]
        number += 1


def changed_part(true: Statement, false: Statement) -> str:
    """Name the part of a statement that a negative of it changes; see `CompositionItem`."""
    if true.relation != false.relation:
        return "relation"
    old, new = next((old, new) for old, new in zip(true.mentions, false.mentions, strict=True) if old != new)
    same_nouns = {mention.noun for mention in true.mentions} == {mention.noun for mention in false.mentions}
    if same_nouns and old.noun != new.noun and old.colour != new.colour:
        return "place" if old.place else "relation"
    return next(name for name in ("noun", "colour", "size", "place") if getattr(old, name) != getattr(new, name))


def composition_items(kind: str, count: int, split: str = "test", seed: int = 0) -> list[CompositionItem]:
    """Return items that ask which of two captions is true, and that cannot be answered without the image.

    Items come in pairs: two captions, and two scenes that differ as little as possible, where each caption is true of
    one scene and false of the other. Every text-only score (length, likelihood, grammar) therefore prefers the false
    caption exactly as often as the true one. For even `count` its accuracy is 50 % by construction.

    SugarCrepe's negatives of the "add" kinds are longer than their captions, so length gives them away, and no scene
    makes the longer caption true and the shorter one false. Here both captions add an object or an attribute, and only
    one of the two is present.

    In each pair of split "test", at least one scene contains a combination of `HELD_OUT`. Scenes of the other splits
    contain none.

    Args:
        kind (`str`): One of `NEGATIVE_KINDS`.
        count (`int`): Number of items. Even numbers keep all pairs whole.
        split (`str`): One of `SPLITS`.
        seed (`int`): Seed of the items.

    Returns:
        `list[CompositionItem]`: Items in which those of a pair are adjacent, in random order.

    Raises:
        ValueError: If `kind` or `split` is unknown.
    """
    rng = random.Random(f"composition/{kind}/{split}/{seed}")
    pairs = _pairs(kind, split, rng)
    return [item for pair in islice(pairs, (count + 1) // 2) for item in pair][:count]


def retrieval_items(count: int, split: str = "test", seed: int = 0) -> list[RetrievalItem]:
    """Return scenes of two to four objects with distinct full captions.

    A caption need not mention everything, so it is sometimes true of another item's scene too.

    Args:
        count (`int`): Number of items.
        split (`str`): One of `SPLITS`.
        seed (`int`): Seed of the items.

    Returns:
        `list[RetrievalItem]`: Items with distinct captions.
    """
    rng = random.Random(f"retrieval/{split}/{seed}")
    scenes: dict[str, Scene] = {}
    while len(scenes) < count:
        scene = generate_scene(rng.getrandbits(48), rng.randint(2, MAX_OBJECTS), split)
        scenes.setdefault(full_caption(scene, rng).text, scene)
    return [RetrievalItem(scene, caption) for caption, scene in scenes.items()]


def zero_shot_labels() -> list[ZeroShotLabel]:
    """Return every colour-noun pair as a class, with a prompt such as "a red cat"."""
    return [
        ZeroShotLabel(colour, noun, Mention(noun, colour=colour).phrase, (colour, noun) in HELD_OUT)
        for colour in COLOURS
        for noun in NOUNS
    ]


def zero_shot_items(count: int, seed: int = 0) -> list[ZeroShotItem]:
    """Return scenes of one object each, with the classes of `zero_shot_labels()` in turn.

    Args:
        count (`int`): Number of items. Multiples of 320 keep the classes balanced.
        seed (`int`): Seed of the items.

    Returns:
        `list[ZeroShotItem]`: Items whose scenes are in no training split. Report held-out classes separately.
    """
    labels = zero_shot_labels()
    rng = random.Random(f"zero_shot/{seed}")
    turns = [k % len(labels) for k in range(count)]
    return [ZeroShotItem(place_objects([labels[k][:2]], rng, seed), k) for k in turns]
