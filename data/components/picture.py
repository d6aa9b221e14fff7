"""Pictures of rows: the boxes on the image, and the captions with their phrases beside it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .boxes import overlap
from .rows import Box, Entity, ImageComponents, Relation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#e6550d", "#1f77b4", "#2ca02c", "#9467bd", "#d62728", "#008b8b", "#b8860b", "#c2185b", "#4b5320", "#5c6bc0")
Style = dict[str, Any]
PLAIN: Style = {"color": "#222222"}
QUIET: Style = {"color": "#777777"}
STRONG: Style = {"color": "#111111", "fontweight": "bold"}
# Inches. The size of a label is an estimate, which is good enough to keep labels apart.
IMAGE, TEXT, MARGIN, LINE, GAP = 6.4, 4.4, 0.2, 0.21, 0.12
LABEL_HEIGHT, LABEL_CHARACTER = 0.17, 0.064
NEST = 0.05  # between the boxes of two relations, whose edges often coincide
LINE_CHARACTERS = 58


def draw(row: ImageComponents, image: Image.Image, path: str | Path, most_relations: int = 3) -> None:
    """Draw a row: solid entity boxes with label and score, dashed boxes of the first relations, phrases beside them.

    Args:
        row (`ImageComponents`): The row.
        image (`PIL.Image.Image`): Its image, of the row's size.
        path (`str` or `Path`): The image file to write.
        most_relations (`int`): Number of relation boxes. Many of them hide the image.
    """
    lines = _lines(row, most_relations)
    size = row.width, row.height
    figure, axes, column = beside_image(image, size, row.image, sum(LINE if text else GAP for text, _ in lines))
    draw_regions(axes, size, row.entities, row.relations[:most_relations])
    top = 0.0
    for text, style in lines:
        column.text(0, top, text, fontsize=9, va="top", **style)
        top += LINE if text else GAP
    figure.savefig(path, dpi=150)


def beside_image(
    image: Image.Image, size: tuple[int, int], title: str, height: float
) -> tuple["Figure", "Axes", "Axes"]:
    """Start a figure of an image with a column of text beside it.

    Args:
        image (`PIL.Image.Image`): The image.
        size (`tuple[int, int]`): Width and height in the pixels of the boxes.
        title (`str`): Text above the image.
        height (`float`): Height of the column in inches.

    Returns:
        `tuple[Figure, Axes, Axes]`: the figure; the axes of the image, in pixels; the axes of the column, `TEXT` wide,
        in inches from its upper left corner.
    """
    from matplotlib.figure import Figure

    wide, high = (side * _scale(size) for side in size)
    width = wide + TEXT + 3 * MARGIN
    full = max(high + LINE, height) + 2 * MARGIN
    figure = Figure(figsize=(width, full))
    figure.text(MARGIN / width, 1 - MARGIN / full, title, fontsize=9, va="top", **QUIET)
    axes = figure.add_axes((MARGIN / width, (full - MARGIN - LINE - high) / full, wide / width, high / full))
    axes.imshow(image, extent=(0, size[0], size[1], 0))
    column = figure.add_axes(((wide + 2 * MARGIN) / width, MARGIN / full, TEXT / width, 1 - 2 * MARGIN / full))
    column.set(xlim=(0, TEXT), ylim=(full - 2 * MARGIN, 0))
    for part in (axes, column):
        part.set_axis_off()
    return figure, axes, column


def draw_regions(
    axes: "Axes", size: tuple[int, int], entities: Sequence[Entity], relations: Sequence[Relation]
) -> None:
    """Draw the boxes of an image: solid for entities, with index, label and score; dashed for relations.

    The dashes of a relation alternate between the colours of its two entities. Relation boxes are drawn a little larger
    than they are, each around the earlier ones.

    Args:
        axes (`Axes`): Axes of the image, in pixels.
        size (`tuple[int, int]`): Width and height of the image in pixels.
        entities (`Sequence[Entity]`): The entities to draw.
        relations (`Sequence[Relation]`): The relations to draw. Their pairs are indices of `entities`.
    """
    scale = _scale(size)
    for number, relation in enumerate(relations, start=1):
        out = NEST * number / scale
        left, top, right, bottom = relation.box
        first, second = (entity_colour(index) for index in relation.pair)
        box = left - out, top - out, right + out, bottom + out
        _draw_box(axes, box, {first: (0, (4, 8)), second: (6, (4, 8))})
    taken: list[Box] = []
    for index, entity in enumerate(entities):
        _draw_box(axes, entity.box, {entity_colour(index): "solid"})
    for index, entity in enumerate(entities):
        text = f"{index} {entity.label} {entity.score:.2f}"
        taken.append(_label_box(entity.box, len(text), scale, taken, size))
        draw_label(axes, taken[-1], text, entity_colour(index))


def entity_colour(index: int) -> str:
    """Return the colour of the entity at an index."""
    return COLOURS[index % len(COLOURS)]


def draw_label(axes: "Axes", place: Box, text: str, colour: str) -> None:
    """Write white text on a coloured box, (left, top, right, bottom) in the units of the axes."""
    from matplotlib.patches import Rectangle

    corner, width, height = place[:2], place[2] - place[0], place[3] - place[1]
    axes.add_patch(Rectangle(corner, width, height, facecolor=colour, alpha=0.9, zorder=3))
    middle = corner[0] + width / 2, corner[1] + height / 2
    axes.text(*middle, text, ha="center", va="center_baseline", fontsize=7.5, color="white", zorder=4)


def _scale(size: tuple[int, int]) -> float:
    """Return the inches per pixel."""
    return IMAGE / max(size)


def _draw_box(axes: "Axes", box: Box, styles: dict[str, Any]) -> None:
    """Draw a box in one or more colours, each with its line style. White below keeps it visible on any image."""
    from matplotlib.patches import Rectangle

    corner, width, height = box[:2], box[2] - box[0], box[3] - box[1]
    options: dict[str, Any] = {"fill": False, "clip_on": False}
    axes.add_patch(Rectangle(corner, width, height, edgecolor="white", linewidth=3, alpha=0.7, **options))
    for colour, style in styles.items():
        axes.add_patch(Rectangle(corner, width, height, edgecolor=colour, linewidth=1.6, linestyle=style, **options))


def _label_box(box: Box, characters: int, scale: float, taken: list[Box], size: tuple[int, int]) -> Box:
    """Place a label above, inside or below its box: at the first free place, or above if no place is free."""
    width, height = (characters + 1) * LABEL_CHARACTER / scale, LABEL_HEIGHT / scale
    tops = (box[1] - height, box[1], box[3] - height, box[3])
    places = []
    for left in (box[0], box[2] - width):
        left = max(0, min(left, size[0] - width))
        places += [(left, top, left + width, top + height) for top in tops if 0 <= top <= size[1] - height]
    free = [place for place in places if not any(overlap(place, other) for other in taken)]
    return (free or places)[0]


def _lines(row: ImageComponents, most_relations: int) -> list[tuple[str, Style]]:
    """Return the lines of text beside the image, with the style of each."""
    lines: list[tuple[str, Style]] = []
    for caption in row.captions:
        lines += [(part, STRONG) for part in textwrap.wrap(caption.text, LINE_CHARACTERS - 8)]
        for name, phrases in (("entities", caption.entities), ("relations", caption.relations)):
            text = f"{name}: {' · '.join(phrases) or 'none'}"
            lines += [(part, PLAIN if phrases else QUIET) for part in textwrap.wrap(text, LINE_CHARACTERS)]
        lines.append(("", PLAIN))
    shown = row.relations[:most_relations]
    if shown:
        lines.append((f"dashed: regions of pairs, {len(shown)} of {len(row.relations)}", QUIET))
    for relation in shown:
        first, second = (f"{index} {row.entities[index].label}" for index in relation.pair)
        lines.append((f"{first} + {second}  {relation.score:.2f}", QUIET))
    return lines
