"""Captions: a statement about a scene, with a truth value, and the sentence form that words it."""

import random
from dataclasses import dataclass
from typing import NamedTuple

from .graph import HELD_OUT, PLACES, Scene, SceneObject, located, related

ATTRIBUTES = ("size", "pattern", "colour")  # in the order in which they are said

# Two wordings a relation; a caption and its negatives keep to the same one.
RELATION_WORDINGS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


class Mention(NamedTuple):
    """What a caption says about one object: its shape and any attributes (None: not said)."""

    shape: str
    size: str | None = None
    pattern: str | None = None
    colour: str | None = None

    @property
    def phrase(self) -> str:
        """Return the noun phrase, such as "a large striped red circle"."""
        return " ".join(["a", *filter(None, (self.size, self.pattern, self.colour)), self.shape])

    @property
    def held_out(self) -> bool:
        """Return whether the mention names a colour-shape combination that training never shows."""
        return (self.colour, self.shape) in HELD_OUT


PLACE_WORDINGS = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}


class Statement(NamedTuple):
    """A conjunction: each mentioned object exists; the first stands in the relation, if any, to the second, and lies at
    the place, if any, in the image."""

    mentions: tuple[Mention, ...]
    relation: str | None = None
    place: str | None = None


class Form(NamedTuple):
    """A sentence form: a template with the fields of `Caption.text`, and which wording of relations it uses."""

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
    """Return "a, b and c"."""
    phrases = [mention.phrase for mention in mentions]
    return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


class Caption(NamedTuple):
    """A statement and the form that words it; a negative is another statement in the same form."""

    statement: Statement
    form: Form

    @property
    def text(self) -> str:
        """Return the sentence."""
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
    """Return the object that a mention describes, or None; at most one, since shapes are distinct within a scene."""
    shape, size, pattern, colour = mention
    for item in scene.objects:
        if item.shape == shape:
            agrees = size in (None, item.size) and pattern in (None, item.pattern) and colour in (None, item.colour)
            return item if agrees else None
    return None


def holds(scene: Scene, statement: Statement) -> bool:
    """Return whether a statement is true of a scene."""
    found = [find(scene, mention) for mention in statement.mentions]
    if None in found:
        return False
    if statement.place is not None and not located(found[0], statement.place):
        return False
    return statement.relation is None or related(found[0], statement.relation, found[1])


@dataclass(frozen=True)
class Detail:
    """How often a mention states each attribute: probabilities in [0, 1]."""

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
OTHERS_MENTIONED = 0.4  # how often a full caption mentions each object outside its relation


@dataclass(frozen=True)
class WebMix:
    """What web-like captions say: shares of the kinds (the rest lists), and how much detail each gives.

    Captions that always spell everything out teach binding by themselves; this mix says little at a time.
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
    """Caption a scene as the web would: often one object, sometimes its place, sometimes a list or a relation.

    Args:
        scene (`Scene`): What to describe.
        rng (`random.Random`): Advanced in place.
        mix (`WebMix`): Shares of the kinds of caption.

    Returns:
        `Caption`: True of the scene. A scene of one object gets a caption that names it, perhaps with its place.
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
    """Caption a scene with a relation between two coloured objects; a single object gets its attributes.

    Args:
        scene (`Scene`): What to describe.
        rng (`random.Random`): Advanced in place.

    Returns:
        `Caption`: True of the scene.
    """
    if len(scene.objects) > 1:
        return _relational(scene, FULL_DETAIL, rng, OTHERS_MENTIONED)
    mention = FULL_DETAIL.describe(scene.objects[0], rng)
    return Caption(Statement((mention,)), rng.choice(LISTING_FORMS))
