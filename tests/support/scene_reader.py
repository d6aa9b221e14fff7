"""A reader of sentences and questions about generated scenes that knows only their words and the objects of a scene.

It shares no code with the writer: a text that it cannot read to the last word is an error.
"""

import re
from typing import NamedTuple

from compalign.data.scenes import COLOURS, NOUNS, SIZES

# Shares of the image side: a place is clear from the first on; centres nearer than the second are aligned.
CLEAR, NONE = 0.07, 0.06
NUMBERS = ("zero", "one", "two", "three", "four")
AN = {"orange", "umbrella", "anchor", "arrow", "atom", "envelope"}
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "over": (1, -1), "below": (1, 1), "under": (1, 1)}
SIDES = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "upper": (1, -1), "bottom": (1, 1), "lower": (1, 1)}

THING = rf"(?:an?|the) (?:(?:{'|'.join(SIZES)}) )?(?:(?:{'|'.join(COLOURS)}) )?(?:{'|'.join(NOUNS)})\b"
RELATION = r"(?:(?:to the )?(?:left|right) of|above|over|below|under)"
PLACE = r"(?:on the (?:left|right)(?: side)?|at the (?:top|bottom)|in the (?:upper|lower) half)"
ITEM = rf"(?:{PLACE} {THING}|{THING} {PLACE}|{THING})"
LIST = rf"{ITEM}(?:(?:, {ITEM})* and {ITEM})?"
SENTENCES = [
    rf"(?:a photo of |a picture of |an image with |there is )?(?P<listing>{LIST})",
    rf"(?:there is |a picture of )?(?P<subject>{THING}) (?:is )?(?P<relation>{RELATION}) (?P<object>{THING})"
    rf"(?:, with (?P<others>{LIST}))?",
    rf"(?P<relation>{RELATION}) (?P<object>{THING}) there is (?P<subject>{THING})(?:, with (?P<others>{LIST}))?",
]


class Thing(NamedTuple):
    """What a text says of one object; `place` is an axis and a sign."""

    noun: str
    colour: str | None
    size: str | None
    place: tuple[int, int] | None


class Reading(NamedTuple):
    """The things of a sentence in order, its subject first, and the direction of the first, seen from the second."""

    things: tuple[Thing, ...]
    direction: tuple[int, int] | None

    @property
    def facts(self):
        """The same for sentences that say the same: relations are read from their left or upper end."""
        related = None
        if self.direction is not None:
            axis, sign = self.direction
            related = axis, *self.things[:2][::-sign]
        return frozenset(self.things), related


def read_thing(text):
    """Read a noun phrase, with or without a place before or after it."""
    article, *words = re.search(THING, text)[0].split()
    assert article == "the" or (article == "an") == (words[0] in AN), text
    place = re.search(PLACE, text)
    side = next((word for word in place[0].split() if word in SIDES), None) if place else None
    colour, size = (next((word for word in words if word in values), None) for values in (COLOURS, SIZES))
    return Thing(words[-1], colour, size, SIDES[side] if side else None)


def read(text):
    """Read a sentence to its last word."""
    (match,) = [found for pattern in SENTENCES if (found := re.fullmatch(pattern, text))] or [None]
    assert match is not None, f"no sentence: {text}"
    parts = match.groupdict()
    if "listing" in parts:
        return Reading(tuple(map(read_thing, re.findall(ITEM, parts["listing"]))), None)
    things = [parts["subject"], parts["object"], *re.findall(ITEM, parts["others"] or "")]
    word = next(word for word in parts["relation"].split() if word in DIRECTIONS)
    return Reading(tuple(map(read_thing, things)), DIRECTIONS[word])


def fits(item, thing):
    """Whether an object has the noun, the colour and the size that are said."""
    said = (thing.noun, thing.colour, thing.size)
    return all(word in (None, is_) for word, is_ in zip(said, (item.noun, item.colour, item.size), strict=True))


def judge(text, scene):
    """Return whether a sentence is true of a scene: True, False, or None where that is not clear."""
    things, direction = read(text)
    found = [next((item for item in scene.objects if fits(item, thing)), None) for thing in things]
    if None in found:
        return False
    judgements = [True]
    for item, thing in zip(found, things, strict=True):
        if thing.place is not None:
            axis, sign = thing.place
            off = sign * (item.centre[axis] - 0.5)
            judgements.append(True if off > CLEAR else False if off < -CLEAR else None)
    if direction is not None:
        axis, sign = direction
        distance = sign * (found[0].centre[axis] - found[1].centre[axis])
        judgements.append(True if distance > 2 * CLEAR else False if distance < NONE else None)
    return False if False in judgements else None if None in judgements else True


def skeleton(text):
    """Return the sentence form: the text with things, relations and places replaced by the wording that they have."""
    text = re.sub(THING, "_", text)
    text = re.sub(r"to the (left|right) of|above|below", "R0", text)
    text = re.sub(r"(left|right) of|over|under", "R1", text)
    text = re.sub(r"on the (left|right) side|in the (upper|lower) half", "P1", text)
    text = re.sub(r"on the (left|right)|at the (top|bottom)", "P0", text)
    return re.sub(r"(\b_ P.|P. _|_)((, \1)* and \1)?", r"\1", text)


def only(found):
    """The one that there is."""
    (one,) = found
    return one


def beyond(item, words, other):
    """Whether an object lies in a direction of another."""
    axis, sign = DIRECTIONS[next(word for word in words.split() if word in DIRECTIONS)]
    distance = sign * (item.centre[axis] - other.centre[axis])
    assert not NONE < distance < 0.17  # never in between
    return distance > NONE


def the(text, scene):
    return only(item for item in scene.objects if fits(item, read_thing(text)))


def how_many(scene, size):
    return NUMBERS[sum(size in (None, item.size) for item in scene.objects)]


def which_side(scene, text, first, second):
    item = the(text, scene)
    (axis, sign), opposite = SIDES[first], SIDES[second]
    assert opposite == (axis, -sign)
    off = sign * (item.centre[axis] - 0.5)
    assert abs(off) > 0.07
    return first if off > 0 else second


def neighbour(scene, words, text):
    item = the(text, scene)
    return only(other.noun for other in scene.objects if other is not item and beyond(other, words, item))


ANSWERS = {
    r"how many (?:(small|large) )?objects are there": how_many,
    r"what colour is the (\w+)": lambda scene, noun: only(item.colour for item in scene.objects if item.noun == noun),
    r"what is (red|blue|green|yellow|purple|orange|pink|black)": lambda scene, colour: only(
        item.noun for item in scene.objects if item.colour == colour
    ),
    rf"is ({THING}) small or large": lambda scene, text: the(text, scene).size,
    rf"is ({THING}) on the (left) or on the (right)": which_side,
    rf"is ({THING}) at the (top) or at the (bottom)": which_side,
    rf"what is ({RELATION}) ({THING})": neighbour,
    rf"is ({THING}) ({RELATION}) ({THING})": lambda scene, first, words, second: (
        "yes" if beyond(the(first, scene), words, the(second, scene)) else "no"
    ),
    rf"is there ({THING})": lambda scene, text: (
        "yes" if any(fits(item, read_thing(text)) for item in scene.objects) else "no"
    ),
}


def answer_of(text, scene):
    """Answer a question from its words alone."""
    match, answer = only(
        (found, answer) for form, answer in ANSWERS.items() if (found := re.fullmatch(rf"{form}\?", text))
    )
    return answer(scene, *match.groups())
