"""The pictures of `compalign score`: an image, and beside it how well captions fit it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from ...data.components import ImageComponents
from ...data.components.picture import (
    GAP,
    LABEL_HEIGHT,
    LINE,
    LINE_CHARACTERS,
    PLAIN,
    QUIET,
    STRONG,
    TEXT,
    beside_image,
    draw_label,
    draw_regions,
    entity_colour,
)
from ...evaluation.scorers.matches import CaptionMatches, Match, compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, OTHER, GROUND = "#1b7f4d", "#9aa3ad", "#eef0f2"
# Inches in the column beside the image.
BAR, CHIP, CHIPS, TEXT_HEIGHT = 0.16, 0.24, 0.72, 0.12
PHRASE_CHARACTERS = 42


class Bar(NamedTuple):
    """A caption with the length of its bar, in [0, 1], and the numbers written under it."""

    caption: str
    length: float
    numbers: str


def draw_bars(
    bars: Sequence[Bar], image: Image.Image, title: str, note: str, path: str | Path | None = None
) -> "Figure":
    """Draw an image with one bar per caption.

    Args:
        bars (sequence of `Bar`): The best caption first.
        image (`PIL.Image.Image`): The image that the captions are about.
        title, note (`str`): Texts above the image and above the captions.
        path (`str` or `Path`, *optional*): Picture file to write.

    Returns:
        `matplotlib.figure.Figure`
    """
    texts = [textwrap.wrap(bar.caption, LINE_CHARACTERS - 8) for bar in bars]
    heading = textwrap.wrap(note, LINE_CHARACTERS)
    height = LINE * len(heading) + sum(LINE * (len(lines) + 2) + 2 * GAP for lines in texts)
    figure, _, column = beside_image(image, image.size, title, height)
    top = _write(column, 0, heading, QUIET)
    for rank, (bar, lines) in enumerate(zip(bars, texts, strict=True)):
        top = _write(column, top + GAP, lines, PLAIN if rank else STRONG)
        _rectangle(column, 0, top, TEXT, BAR, GROUND)
        _rectangle(column, 0, top, TEXT * bar.length, BAR, OTHER if rank else BEST)
        top = _write(column, top + BAR + LINE / 4, [bar.numbers], QUIET) + GAP
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def draw_matches(
    captions: Sequence[CaptionMatches],
    row: ImageComponents,
    image: Image.Image,
    title: str,
    note: str,
    path: str | Path | None = None,
) -> "Figure":
    """Draw an image with its regions, and beside it the phrases of captions, each with the region most like it.

    A region is named by the numbers of its entities, in their colours: one for an entity, two for a relation. Only
    those relations are drawn that are most like a phrase.

    Args:
        captions (sequence of `CaptionMatches`): The best caption first.
        row (`ImageComponents`): The regions that the model saw.
        image (`PIL.Image.Image`): The image, of the row's size.
        title, note (`str`): Texts above the image and above the captions.
        path (`str` or `Path`, *optional*): Picture file to write.

    Returns:
        `matplotlib.figure.Figure`
    """
    heading = textwrap.wrap(note, LINE_CHARACTERS)
    figure, axes, column = beside_image(
        image, (row.width, row.height), title, LINE * len(heading) + sum(map(_height, captions))
    )
    met = [match.region for caption in captions for match in caption.relations.matches if match.region is not None]
    draw_regions(axes, (row.width, row.height), row.entities, [row.relations[region] for region in dict.fromkeys(met)])
    top = _write(column, 0, heading, QUIET)
    for rank, caption in enumerate(captions):
        top = _write(column, top + GAP, textwrap.wrap(caption.text, LINE_CHARACTERS - 8), PLAIN if rank else STRONG)
        top = _write(column, top, [parts(caption)], QUIET if rank else {"color": BEST})
        for match in compared(caption):
            top = _draw_match(column, top, match)
        top += GAP
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def missing(match: Match) -> str:
    """Say what a phrase that has no region was compared with."""
    return "no region" if match.cosine is None else "empty slot"


def parts(caption: CaptionMatches) -> str:
    """Name the parts of a caption's score."""
    values = caption.whole, caption.entities.similarity, caption.relations.similarity
    named = zip(("global", "entities", "relations"), values, strict=True)
    made_of = " · ".join(f"{name} {value:.3f}" for name, value in named if value is not None)
    return f"score {caption.score:.3f}:  {made_of}"


def _height(caption: CaptionMatches) -> float:
    """Return the inches that a caption takes up with its phrases."""
    lines = [textwrap.wrap(match.phrase, PHRASE_CHARACTERS) for match in compared(caption)]
    return LINE * (len(textwrap.wrap(caption.text, LINE_CHARACTERS - 8)) + 1 + sum(map(len, lines))) + 2 * GAP


def _draw_match(column: "Axes", top: float, match: Match) -> float:
    """Draw a line: the numbers of the region's entities, the phrase, the cosine; return where the next one begins."""
    above = top - (LABEL_HEIGHT - TEXT_HEIGHT) / 2
    for place, entity in enumerate(match.entities):
        left = place * (CHIP + 0.14)
        draw_label(column, (left, above, left + CHIP, above + LABEL_HEIGHT), str(entity), entity_colour(entity))
        if place:
            column.text(left - 0.07, above + LABEL_HEIGHT / 2, "+", ha="center", va="center", fontsize=9, **QUIET)
    if not match.entities:
        column.text(0, top, missing(match), fontsize=8, va="top", **QUIET)
    if match.cosine is not None:
        column.text(TEXT, top, f"{match.cosine:.2f}", fontsize=9, va="top", ha="right", **PLAIN)
    return _write(column, top, textwrap.wrap(match.phrase, PHRASE_CHARACTERS), PLAIN, CHIPS)


def _write(column: "Axes", top: float, lines: Sequence[str], style: dict[str, str], left: float = 0) -> float:
    """Write lines below one another, and return where the next one begins."""
    for line in lines:
        column.text(left, top, line, fontsize=9, va="top", **style)
        top += LINE
    return top


def _rectangle(column: "Axes", left: float, top: float, width: float, height: float, colour: str) -> None:
    """Fill a rectangle."""
    from matplotlib.patches import Rectangle

    column.add_patch(Rectangle((left, top), width, height, color=colour, linewidth=0))
