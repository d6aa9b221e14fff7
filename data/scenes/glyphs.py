"""The nouns of generated scenes: symbols of the font DejaVu Sans, which matplotlib ships and which is free to use."""

from typing import NamedTuple


class Glyph(NamedTuple):
    """A symbol of the font, and the width and height of its ink as shares of the longer of the two."""

    character: str
    width: float
    height: float


# The extents are those of the font at 1,000 pixels; written down, they make boxes the same on every machine.
GLYPHS = {
    "sun": Glyph("\N{BLACK SUN WITH RAYS}", 1.000, 0.999),
    "cloud": Glyph("\N{CLOUD}", 1.000, 0.404),
    "umbrella": Glyph("\N{UMBRELLA}", 1.000, 0.911),
    "telephone": Glyph("\N{BLACK TELEPHONE}", 1.000, 0.657),
    "star": Glyph("\N{BLACK STAR}", 1.000, 0.950),
    "cup": Glyph("\N{HOT BEVERAGE}", 1.000, 0.977),
    "clover": Glyph("\N{SHAMROCK}", 1.000, 0.982),
    "hand": Glyph("\N{BLACK RIGHT POINTING INDEX}", 1.000, 0.627),
    "skull": Glyph("\N{SKULL AND CROSSBONES}", 1.000, 0.943),
    "wheel": Glyph("\N{WHEEL OF DHARMA}", 1.000, 0.974),
    "face": Glyph("\N{BLACK SMILING FACE}", 0.999, 1.000),
    "moon": Glyph("\N{LAST QUARTER MOON}", 0.625, 1.000),
    "crown": Glyph("\N{BLACK CHESS QUEEN}", 0.926, 1.000),
    "tower": Glyph("\N{BLACK CHESS ROOK}", 0.772, 1.000),
    "horse": Glyph("\N{BLACK CHESS KNIGHT}", 0.784, 1.000),
    "pawn": Glyph("\N{BLACK CHESS PAWN}", 0.821, 1.000),
    "spade": Glyph("\N{BLACK SPADE SUIT}", 0.798, 1.000),
    "heart": Glyph("\N{BLACK HEART SUIT}", 0.989, 1.000),
    "diamond": Glyph("\N{BLACK DIAMOND SUIT}", 0.768, 1.000),
    "note": Glyph("\N{BEAMED EIGHTH NOTES}", 0.637, 1.000),
    "flag": Glyph("\N{BLACK FLAG}", 0.770, 1.000),
    "anchor": Glyph("\N{ANCHOR}", 0.949, 1.000),
    "gear": Glyph("\N{GEAR}", 0.950, 1.000),
    "atom": Glyph("\N{ATOM SYMBOL}", 0.882, 1.000),
    "bolt": Glyph("\N{HIGH VOLTAGE SIGN}", 0.737, 1.000),
    "plane": Glyph("\N{AIRPLANE}", 1.000, 0.950),
    "envelope": Glyph("\N{ENVELOPE}", 1.000, 0.725),
    "pencil": Glyph("\N{PENCIL}", 1.000, 0.419),
    "cross": Glyph("\N{HEAVY MULTIPLICATION X}", 0.999, 1.000),
    "flower": Glyph("\N{BLACK FLORETTE}", 1.000, 0.970),
    "snowflake": Glyph("\N{SNOWFLAKE}", 0.907, 1.000),
    "leaf": Glyph("\N{ROTATED FLORAL HEART BULLET}", 1.000, 0.582),
    "arrow": Glyph("\N{BLACK RIGHTWARDS ARROWHEAD}", 1.000, 0.937),
    "house": Glyph("\N{HOUSE}", 0.827, 1.000),
    "key": Glyph("\N{CHIRON}", 0.492, 1.000),
    "card": Glyph("\N{PLAYING CARD ACE OF SPADES}", 0.709, 1.000),
    "mouse": Glyph("\N{MOUSE FACE}", 0.903, 1.000),
    "cow": Glyph("\N{COW FACE}", 1.000, 0.803),
    "cat": Glyph("\N{CAT FACE}", 1.000, 0.973),
    "monkey": Glyph("\N{MONKEY FACE}", 1.000, 0.964),
}
NOUNS = tuple(GLYPHS)
