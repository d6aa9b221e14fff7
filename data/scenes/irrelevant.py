"""Sentences that no image explains: shop text, opinions, boilerplate, and claims about things that are not there."""

import random

from .captions import PLACE_WORDINGS, Mention
from .glyphs import NOUNS
from .graph import COLOURS

REQUESTS = ("Anything else?", "Tell me about the order.", "Do you like it?", "Please go on.", "Is there any news?")
WORDS = {
    "number": ("two", "three", "five", "seven", "nine", "ten", "twelve", "twenty"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "town": ("paris", "lima", "cairo", "oslo", "delhi", "perth", "quito", "tokyo"),
    "person": ("anna", "omar", "mei", "lucas", "sara", "ivan", "nora", "kofi"),
    "view": ("lovely", "boring", "strange", "cheap", "perfect", "old", "funny", "sad"),
    "good": ("shirt", "poster", "mug", "sticker", "blanket", "notebook", "pillow", "bag"),
}
TEMPLATES = (
    "your {good} ships to {town} in {number} days",
    "free delivery to {town} on {day} for orders over {number} coins",
    "this {good} costs {number} coins until {day}",
    "buy {number} and get one {good} free",
    "{person} thinks it looks {view}",
    "in my view it is {view} and a little {view}",
    "{person} and {person} found it {view} last {day}",
    "all rights reserved by {person} of {town}",
    "click here to see {number} more from {person}",
    "last updated on {day} by {person} in {town}",
    "{person} sold {absent} on {day}",
    "the next page shows {absent} {place}",
    "{absent} was here on {day}",
)


def irrelevant_sentence(rng: random.Random) -> str:
    """Draw a sentence that says nothing about any image.

    Args:
        rng (`random.Random`): Random generator, advanced in place.

    Returns:
        `str`: Such as "your mug ships to oslo in five days", without a full stop. It may name a noun and a colour of
        the world, drawn at random.
    """
    words = []
    for word in rng.choice(TEMPLATES).split():
        kind = word.strip("{}")
        if kind == "absent":
            words.append(Mention(rng.choice(NOUNS), colour=rng.choice(COLOURS)).phrase)
        elif kind == "place":
            words.append(rng.choice(list(PLACE_WORDINGS.values()))[0])
        else:
            words.append(rng.choice(WORDS[kind]) if word != kind else word)
    return " ".join(words)
