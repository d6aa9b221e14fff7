"""Captions of scenes: a statement, which is true or false of a scene, and the sentence form that words it."""

import random
from dataclasses import dataclass
from typing import NamedTuple

from .graph import HELD_OUT, PLACES, Scene, SceneObject, located, related

ATTRIBUTES = ("size", "pattern", "colour")  # in the order of a noun phrase

# Two wordings per relation. A caption and its negatives use the same one.
RELATION_WORDINGS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


class Mention(NamedTuple):
    """A mention of an object in a caption: its shape, and attributes that may be None (not mentioned)."""

    shape: str
    size: str | None = None
    pattern: str | None = None
    colour: str | None = None

    @property
    def phrase(self) -> str:
        """The noun phrase, such as "a large striped red circle"."""
        return " ".join(["a", *filter(None, (self.size, self.pattern, self.colour)), self.shape])

    @property
    def held_out(self) -> bool:
        """Whether the mention names a colour-shape combination that training never shows."""
        return (self.colour, self.shape) in HELD_OUT


PLACE_WORDINGS = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}


class Statement(NamedTuple):
    """A conjunction of facts about a scene.

    Args:
        mentions (`tuple[Mention, ...]`): Objects that exist in the scene.
        relation (`str`, *optional*): Relation of the first object to the second, one of `RELATIONS`.
        place (`str`, *optional*): Side of the image where the first object lies, a key of `PLACES`.
    """

    mentions: tuple[Mention, ...]
    relation: str | None = None
    place: str | None = None


class Form(NamedTuple):
    """A sentence form: a template with the fields of `Caption.text`, and the index of its wording of relations."""

    template: str
    wording: int = 0


LISTING_FORMS = tuple(
    Form(template)
    for template in (
        "{listing}",
        "{listing}",
        "a photo of {listing}",
        "a picture of {listing}",
        "an image with {listing}",
        "there is {listing}",
    )
)
RELATION_FORMS = tuple(
    Form(template, wording)
    for template in (
        "{subject} {relation} {object}{others}",
        "{subject} is {relation} {object}{others}",
        "there is {subject} {relation} {object}{others}",
        "a picture of {subject} {relation} {object}{others}",
        "{relation} {object} there is {subject}{others}",
    )
    for wording in (0, 1)
)


def _joined(mentions: tuple[Mention, ...]) -> str:
    """Join the phrases of mentions to "a, b and c"."""
    phrases = [mention.phrase for mention in mentions]
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


class Caption(NamedTuple):
    """A statement in a sentence form. A negative is another statement in the same form."""

    statement: Statement
    form: Form

    @property
    def text(self) -> str:
        """The sentence."""
        mentions, relation, place = self.statement
        if relation is None:
            listing = _joined(mentions) if place is None else f"{_joined(mentions)} {PLACE_WORDINGS[place]}"
            return self.form.template.format(listing=listing)
        return self.form.template.format(
            subject=mentions[0].phrase,
            relation=RELATION_WORDINGS[relation][self.form.wording],
            object=mentions[1].phrase,
            others=f", with {_joined(mentions[2:])}" if mentions[2:] else "",
        )


def find(scene: Scene, mention: Mention) -> SceneObject | None:
    """Return the object that a mention describes, or None. Shapes are distinct, so there is at most one."""
    shape, size, pattern, colour = mention
    for item in scene.objects:
        if item.shape == shape:
            agrees = size in (None, item.size) and pattern in (None, item.pattern) and colour in (None, item.colour)
            return item if agrees else None
    return None


def holds(scene: Scene, statement: Statement) -> bool:
    """Return whether a statement is true of a scene."""
    found = [item for mention in statement.mentions if (item := find(scene, mention)) is not None]
    if len(found) < len(statement.mentions):
        return False
    if statement.place is not None and not located(found[0], statement.place):
        return False
    return statement.relation is None or related(found[0], statement.relation, found[1])


@dataclass(frozen=True)
class Detail:
    """The probability, in [0, 1], that a mention states each attribute."""

    colour: float
    size: float
    pattern: float

    def describe(self, item: SceneObject, rng: random.Random) -> Mention:
        """Return a mention of the object with attributes drawn at random."""
        return Mention(
            item.shape,
            item.size if rng.random() < self.size else None,
            item.pattern if rng.random() < self.pattern else None,
            item.colour if rng.random() < self.colour else None,
        )


FULL_DETAIL = Detail(colour=1.0, size=0.35, pattern=0.35)
OTHERS_MENTIONED = 0.4  # probability that a full caption mentions each object outside its relation


@dataclass(frozen=True)
class WebMix:
    """Shares of the kinds of web-like captions, and the detail of each. The remaining share lists all objects.

    Captions that always state everything teach binding by themselves. The captions of this mix each state little.
    """

    single: float = 0.30
    located: float = 0.20
    relation: float = 0.25
    single_detail: Detail = Detail(colour=0.85, size=0.15, pattern=0.15)
    listing_detail: Detail = Detail(colour=0.6, size=0.1, pattern=0.1)


WEB_MIX = WebMix()


def _relational(scene: Scene, detail: Detail, rng: random.Random, others: float) -> Caption:
    """State one true relation, then mention each other object with probability `others`."""
    subject, relation, target = rng.choice(scene.relations())
    rest = [k for k in range(len(scene.objects)) if k not in (subject, target) and rng.random() < others]
    rng.shuffle(rest)
    mentions = tuple(detail.describe(scene.objects[k], rng) for k in (subject, target, *rest))
    return Caption(Statement(mentions, relation), rng.choice(RELATION_FORMS))


def web_caption(scene: Scene, rng: random.Random, mix: WebMix = WEB_MIX) -> Caption:
    """Describe a scene like a caption from the web: often one object, sometimes its place, a list or a relation.

    Args:
        scene (`Scene`): The scene.
        rng (`random.Random`): Random generator, advanced in place.
        mix (`WebMix`): Shares of the kinds of caption.

    Returns:
        `Caption`: A caption that is true of the scene. A single object is named, sometimes with its place.
    """
    kind = rng.random()
    place = None
    if kind < mix.relation and len(scene.objects) > 1:
        return _relational(scene, mix.listing_detail, rng, others=0.0)
    if kind < mix.relation + mix.single + mix.located or len(scene.objects) == 1:
        chosen, detail = [rng.choice(scene.objects)], mix.single_detail
        places = [name for name in PLACES if located(chosen[0], name)]
        if places and rng.random() < mix.located / (mix.single + mix.located):
            place = rng.choice(places)
    else:
        chosen, detail = rng.sample(scene.objects, len(scene.objects)), mix.listing_detail
    mentions = tuple(detail.describe(item, rng) for item in chosen)
    return Caption(Statement(mentions, place=place), rng.choice(LISTING_FORMS))


def full_caption(scene: Scene, rng: random.Random) -> Caption:
    """Describe a scene by a relation between two coloured objects. A single object is described by its attributes.

    Args:
        scene (`Scene`): The scene.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `Caption`: A caption that is true of the scene.
    """
    if len(scene.objects) > 1:
        return _relational(scene, FULL_DETAIL, rng, OTHERS_MENTIONED)
    mention = FULL_DETAIL.describe(scene.objects[0], rng)
    return Caption(Statement((mention,)), rng.choice(LISTING_FORMS))
