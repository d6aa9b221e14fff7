"""Captions of scenes: a statement, which is true or false of a scene, and the sentence form that words it."""

import random
from dataclasses import dataclass
from typing import NamedTuple

from .graph import HELD_OUT, OFF_CENTRE, PLACES, Scene, SceneObject, located, related, with_article

ATTRIBUTES = ("size", "colour")  # in the order of a noun phrase
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
AXES = (("left", "right"), ("top", "bottom"))

# Two wordings of each relation and place. A caption and its negatives use the same one.
RELATION_WORDINGS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
PLACE_WORDINGS = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "in the upper half"),
    "bottom": ("at the bottom", "in the lower half"),
}


class Mention(NamedTuple):
    """A mention of an object in a caption: its noun, and attributes and a place that may be None (not mentioned)."""

    noun: str
    size: str | None = None
    colour: str | None = None
    place: str | None = None

    @property
    def phrase(self) -> str:
        """The noun phrase, such as "a large red cat"."""
        return with_article(" ".join(filter(None, (self.size, self.colour, self.noun))))

    @property
    def held_out(self) -> bool:
        """Whether the mention names a colour-noun combination that training never shows."""
        return (self.colour, self.noun) in HELD_OUT


class Statement(NamedTuple):
    """A conjunction of facts about a scene.

    Args:
        mentions (`tuple[Mention, ...]`): Objects that exist in the scene.
        relation (`str`, *optional*): Relation of the first object to the second, one of `RELATIONS`.
    """

    mentions: tuple[Mention, ...]
    relation: str | None = None


class Form(NamedTuple):
    """A sentence form: a template with the fields of `Caption.text`, and the wording of its relations and places.

    Args:
        template (`str`): The sentence, with the field `listing`, or `subject`, `relation`, `object` and `others`.
        wording (`int`): Index in `RELATION_WORDINGS` and `PLACE_WORDINGS`.
        place_first (`bool`): Whether a place comes before its object: "on the left a red cat".
    """

    template: str
    wording: int = 0
    place_first: bool = False


LISTINGS = (
    "{listing}",
    "{listing}",
    "a photo of {listing}",
    "a picture of {listing}",
    "an image with {listing}",
    "there is {listing}",
)
LISTING_FORMS = tuple(Form(template, wording) for template in LISTINGS for wording in (0, 1))
PLACE_FORMS = (*LISTING_FORMS, Form("{listing}", 0, place_first=True), Form("{listing}", 1, place_first=True))
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


class Caption(NamedTuple):
    """A statement in a sentence form. A negative is another statement in the same form."""

    statement: Statement
    form: Form

    @property
    def text(self) -> str:
        """The sentence."""
        mentions, relation = self.statement
        if relation is None:
            return self.form.template.format(listing=self._joined(mentions))
        return self.form.template.format(
            subject=mentions[0].phrase,
            relation=RELATION_WORDINGS[relation][self.form.wording],
            object=mentions[1].phrase,
            others=f", with {self._joined(mentions[2:])}" if mentions[2:] else "",
        )

    def _joined(self, mentions: tuple[Mention, ...]) -> str:
        """Join mentions to "a, b and c"."""
        phrases = [self._placed(mention) for mention in mentions]
        return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))

    def _placed(self, mention: Mention) -> str:
        """Word a mention with its place, if it has one."""
        if mention.place is None:
            return mention.phrase
        words = [mention.phrase, PLACE_WORDINGS[mention.place][self.form.wording]]
        return " ".join(reversed(words) if self.form.place_first else words)


def find(scene: Scene, mention: Mention, off_centre: float = OFF_CENTRE) -> SceneObject | None:
    """Return the object that a mention describes, or None. Nouns are distinct, so there is at most one."""
    noun, size, colour, place = mention
    for item in scene.objects:
        if item.noun == noun:
            agrees = size in (None, item.size) and colour in (None, item.colour)
            return item if agrees and (place is None or located(item, place, off_centre)) else None
    return None


def holds(scene: Scene, statement: Statement, off_centre: float = OFF_CENTRE) -> bool:
    """Return whether a statement is true of a scene, where a place begins `off_centre` from the middle of the image."""
    found = [item for mention in statement.mentions if (item := find(scene, mention, off_centre)) is not None]
    if len(found) < len(statement.mentions):
        return False
    return statement.relation is None or related(found[0], statement.relation, found[1])


def clearly_false(scene: Scene, statement: Statement) -> bool:
    """Return whether a statement is false even if an object near the middle of the image lies at each of its sides."""
    return not holds(scene, statement, -OFF_CENTRE)


@dataclass(frozen=True)
class Detail:
    """The probability, in [0, 1], that a mention states each attribute."""

    colour: float
    size: float

    def describe(self, item: SceneObject, rng: random.Random, place: str | None = None) -> Mention:
        """Return a mention of the object with attributes drawn at random."""
        return Mention(
            item.noun,
            item.size if rng.random() < self.size else None,
            item.colour if rng.random() < self.colour else None,
            place,
        )


FULL_DETAIL = Detail(colour=1.0, size=0.3)
OTHERS_MENTIONED = 0.3  # probability that a relation's caption mentions each further object
# Shares of the captions of several objects that state their places, or a relation; the others list what is there.
PLACES_STATED, RELATION_STATED = 0.4, 0.3


def full_caption(scene: Scene, rng: random.Random) -> Caption:
    """Describe the objects of a scene by their colours, and often by their places or by a relation of two of them.

    Args:
        scene (`Scene`): The scene.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `Caption`: A caption that is true of the scene. Every object that it mentions has its colour.
    """
    if len(scene.objects) == 1:
        return _single(scene.objects[0], FULL_DETAIL, PLACES_STATED, rng)
    kind = rng.random()
    opposed = _opposed(scene)
    if kind < PLACES_STATED and opposed:
        mentions = tuple(FULL_DETAIL.describe(item, rng, place) for item, place in rng.choice(opposed))
        return Caption(Statement(mentions), rng.choice(PLACE_FORMS))
    if kind < PLACES_STATED + RELATION_STATED:
        return _relational(scene, rng)
    listed = rng.sample(scene.objects, rng.randint(2, len(scene.objects)))
    return Caption(Statement(tuple(FULL_DETAIL.describe(item, rng) for item in listed)), rng.choice(LISTING_FORMS))


def _single(item: SceneObject, detail: Detail, place_stated: float, rng: random.Random) -> Caption:
    """Describe one object, with one of its places in a share `place_stated` of the captions."""
    places = [name for name in PLACES if located(item, name)]
    if places and rng.random() < place_stated:
        return Caption(Statement((detail.describe(item, rng, rng.choice(places)),)), rng.choice(PLACE_FORMS))
    return Caption(Statement((detail.describe(item, rng),)), rng.choice(LISTING_FORMS))


def _opposed(scene: Scene) -> list[tuple[tuple[SceneObject, str], tuple[SceneObject, str]]]:
    """Return all pairs of objects at opposite sides of the image, each object with its side."""
    return [
        ((first, place), (second, opposite))
        for axis in AXES
        for place, opposite in (axis, axis[::-1])
        for first in scene.objects
        for second in scene.objects
        if located(first, place) and located(second, opposite)
    ]


def _relational(scene: Scene, rng: random.Random) -> Caption:
    """State one true relation, and mention some of the other objects."""
    subject, relation, target = rng.choice(scene.relations())
    rest = [k for k in range(len(scene.objects)) if k not in (subject, target) and rng.random() < OTHERS_MENTIONED]
    rng.shuffle(rest)
    mentions = tuple(FULL_DETAIL.describe(scene.objects[k], rng) for k in (subject, target, *rest))
    return Caption(Statement(mentions, relation), rng.choice(RELATION_FORMS))


def paraphrase(caption: Caption, rng: random.Random) -> Caption:
    """Say the same in other words: another form, the mentions in another order, or the relation seen from its object.

    Args:
        caption (`Caption`): The caption.
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `Caption`: A caption with another text, true of exactly the same scenes.
    """
    mentions, relation = caption.statement
    if relation is not None:
        turned = Statement((mentions[1], mentions[0], *mentions[2:]), OPPOSITE[relation])
        forms, statements = RELATION_FORMS, [caption.statement, turned, turned]
    else:
        forms = PLACE_FORMS if any(mention.place for mention in mentions) else LISTING_FORMS
        statements = [caption.statement, Statement(mentions[::-1])]
    while True:
        other = Caption(rng.choice(statements), rng.choice(forms))
        if other.text != caption.text:
            return other


@dataclass(frozen=True)
class WebMix:
    """The make-up of web-like captions. Few of them bind what they name, as is true of captions from the web.

    Args:
        bound (`float`): Share of the scenes of several objects with a caption that binds, in [0, 1]; the others get
            tags: the words for what is there, in random order.
        place (`float`): Share of the scenes of one object whose caption says where it is, in [0, 1].
        detail (`Detail`): Detail of the captions of one object.
        tags (`Detail`): Probability that a tag names each attribute.
        noun (`float`): Probability that a tag names each noun, in [0, 1].
    """

    bound: float = 0.0
    place: float = 0.4
    detail: Detail = Detail(colour=0.7, size=0.2)
    tags: Detail = Detail(colour=0.6, size=0.1)
    noun: float = 0.85


WEB_MIX = WebMix()


def web_caption(scene: Scene, rng: random.Random, mix: WebMix = WEB_MIX) -> str:
    """Describe a scene like a caption from the web: one object in a phrase, several by tags in random order.

    Args:
        scene (`Scene`): The scene.
        rng (`random.Random`): Random generator, advanced in place.
        mix (`WebMix`): Make-up of the captions.

    Returns:
        `str`: Such as "a photo of a red cat", "a cat on the left" or "umbrella red cat blue".
    """
    if len(scene.objects) == 1:
        return _single(scene.objects[0], mix.detail, mix.place, rng).text
    if rng.random() < mix.bound:
        return full_caption(scene, rng).text
    words = [item.noun for item in scene.objects if rng.random() < mix.noun] or [scene.objects[0].noun]
    for item in scene.objects:
        _, size, colour, _ = mix.tags.describe(item, rng)
        words += filter(None, (size, colour))
    rng.shuffle(words)
    return " ".join(words)
