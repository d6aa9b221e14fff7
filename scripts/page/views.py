"""The views of the page: a chart of scores, an image with its boxes, and texts that a phone can wrap."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ...data.components import ImageComponents
from ...data.components.picture import PLAIN, QUIET, STRONG, entity_colour
from ...evaluation.report import PALETTE, markdown
from ...evaluation.scorers.matches import CaptionMatches, Match
from ..scoring.picture import parts
from ..tokens import COLOUR_MAP, TokenWeight
from .models import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. Narrow figures with large letters: a phone shows them at about 75 pixels per inch.
WIDTH, MARGIN, LINE, BAR, GAP = 4.6, 0.1, 0.21, 0.2, 0.16
LONGEST, KEY = 3.2, 0.14  # a bar that means 100 %; a square of the legend
GROUND, APART = "#eef0f2", 0.04
LINE_CHARACTERS = 54
SHOWN_PIXELS = 1024


def score_figure(captions: Sequence[str], scores: Sequence[Scores]) -> "Figure":
    """Draw one bar per model under each caption: the caption's share among the captions.

    Args:
        captions (sequence of `str`): The first one is true.
        scores (sequence of `Scores`): One per model; at most as many as there are colours.

    Returns:
        `matplotlib.figure.Figure`: `WIDTH` inches wide; a model's best caption has its numbers in bold.
    """
    texts = [textwrap.wrap(f"{number}  {caption}", LINE_CHARACTERS) for number, caption in enumerate(captions, start=1)]
    block = len(scores) * (BAR + APART) + GAP
    height = sum(LINE * len(lines) + block for lines in texts) + LINE * len(scores) + 2 * MARGIN
    figure, axes = _sheet(height)
    top = 0.0
    for k, model in enumerate(scores):
        _bar(axes, top + 0.01, KEY, PALETTE[k], KEY)
        axes.text(KEY + 0.08, top, model.model, va="top", **PLAIN)
        top += LINE
    axes.text(LONGEST + APART + KEY / 2, 0, "share · cosine", va="top", **QUIET)
    top += GAP / 2
    for number, lines in enumerate(texts):
        for line in lines:
            axes.text(0, top, line, va="top", **(PLAIN if number else STRONG))
            top += LINE
        for k, model in enumerate(scores):
            _bar(axes, top, LONGEST, GROUND)
            _bar(axes, top, max(LONGEST * model.shares[number], 0.01), PALETTE[k])
            style = STRONG if number == model.best else QUIET
            axes.text(LONGEST + APART + KEY / 2, top + BAR / 2, _numbers(model, number), va="center_baseline", **style)
            top += BAR + APART
        top += GAP
    return figure


def _sheet(height: float) -> tuple["Figure", "Axes"]:
    """Make an empty figure, measured in inches from its upper left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=200)
    axes = figure.add_axes(
        (MARGIN / WIDTH, MARGIN / height, 1 - 2 * MARGIN / WIDTH, 1 - 2 * MARGIN / height),
        xlim=(0, WIDTH - 2 * MARGIN),
        ylim=(height - 2 * MARGIN, 0),
    )
    axes.set_axis_off()
    return figure, axes


def _bar(axes: "Axes", top: float, length: float, colour: str, height: float = BAR) -> None:
    """Fill a bar that begins at the left edge."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((0, top), length, height, color=colour, linewidth=0))


def verdict(captions: Sequence[str], scores: Sequence[Scores]) -> str:
    """Say in Markdown which caption each model prefers.

    Args:
        captions, scores: As for `score_figure`.

    Returns:
        `str`: One line per model, and another one where the model could not read all captions to their end.
    """
    if len(captions) == 1:
        return "There is nothing to choose from yet: type a second caption, or press *Propose foils*."
    lines = []
    for model in scores:
        name, share = plain(model.model), model.shares[model.best]
        judged = "the true one" if model.best == 0 else "**not the true one**"
        lines.append(f"- {name} prefers caption {model.best + 1}, {judged} ({share:.0%})")
        if model.truncated:
            lines.append(f"- {name} cut off the end of {model.truncated} captions, which are longer than it reads")
    return "\n".join(lines)


def score_table(captions: Sequence[str], scores: Sequence[Scores]) -> str:
    """Lay out all numbers as a Markdown table, and say how to read them."""
    header = ["share · cosine", *(plain(model.model) for model in scores)]
    rows = [
        [f"{number + 1} {plain(caption)}", *(_numbers(model, number) for model in scores)]
        for number, caption in enumerate(captions)
    ]
    note = (
        "The share of a caption is the softmax over all captions of logit scale times cosine. Cosines of different "
        "models do not compare; shares do, for the same captions."
    )
    return f"{markdown([header, *rows])}\n\n{note}"


def _numbers(model: Scores, number: int) -> str:
    """Write the share and the cosine of a caption."""
    return f"{model.shares[number]:.0%} · {model.cosines[number]:.3f}"


def plain(text: str) -> str:
    """Escape what Markdown would take for markup."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$-])", r"\\\1", text)


def region_figure(image: Image.Image, row: ImageComponents) -> "Figure":
    """Draw an image with the boxes of its entities, numbered from 1.

    Args:
        image (`PIL.Image.Image`): The image, of the row's size.
        row (`ImageComponents`): The entities.

    Returns:
        `matplotlib.figure.Figure`: at most `WIDTH` inches on each side.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    inches = WIDTH / max(image.size)
    figure = Figure(figsize=(inches * image.width, inches * image.height), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    small = image.copy()
    small.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
    axes.imshow(small, extent=(0, image.width, image.height, 0))
    axes.set_axis_off()
    for index, entity in enumerate(row.entities):
        left, top, right, bottom = entity.box
        for colour, width in (("white", 4), (entity_colour(index), 2)):
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=width))
        axes.text(
            left,
            top,
            str(index + 1),
            ha="left",
            va="top",
            fontweight="bold",
            color="white",
            bbox={"facecolor": entity_colour(index), "edgecolor": "white", "pad": 3},
        )
    return figure


def match_page(row: ImageComponents, captions: Sequence[CaptionMatches]) -> str:
    """Write each caption with its score, and each phrase with its region and their cosine.

    Args:
        row (`ImageComponents`): The regions; entities are numbered from 1, relations named by two numbers.
        captions (sequence of `CaptionMatches`): The result of `match`.

    Returns:
        `str`: HTML.
    """
    best = max(captions, key=lambda caption: caption.score)
    blocks = []
    for caption in captions:
        mark = ' <span class="best">highest score</span>' if caption is best and len(captions) > 1 else ""
        matches = [*caption.entities.matches, *caption.relations.matches]
        lines = "".join(map(_phrase, matches)) or "<li>no phrase was found in this caption</li>"
        blocks.append(f"<h3>{html.escape(caption.text)}{mark}</h3><p>{parts(caption)}</p><ul>{lines}</ul>")
    return f'<div class="matches">{"".join(blocks)}</div>'


def _phrase(match: Match) -> str:
    """Write a line: the numbers of the region's entities in their colours, the phrase, the cosine."""
    chips = [f'<b style="background:{entity_colour(entity)}">{entity + 1}</b>' for entity in match.entities]
    cosine = "" if match.cosine is None else f"<i>{match.cosine:.2f}</i>"
    return f"<li><span>{'+'.join(chips) or 'none'}</span> {html.escape(match.phrase)} {cosine}</li>"


def token_page(captions: Sequence[Sequence[TokenWeight]], clamp: tuple[float, float] = (1.0, 5.0)) -> str:
    """Write captions with each token on the colour of its weight, the number above it.

    Args:
        captions (sequence of sequences of `TokenWeight`): The result of `weigh`.
        clamp (`tuple[float, float]`): Least and largest weight, the ends of the colours.

    Returns:
        `str`: HTML.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = colormaps[COLOUR_MAP]
    paragraphs = []
    for weights in captions:
        words = []
        for token, _, weight in weights:
            shade = (weight - clamp[0]) / (clamp[1] - clamp[0])
            style = f"background:{to_hex(colours(shade))};color:{'white' if shade > 0.6 else 'black'}"
            words.append(f'<ruby style="{style}">{html.escape(token.strip("▁Ġ"))}<rt>{weight:.1f}</rt></ruby>')
        paragraphs.append(f"<p>{' '.join(words)}</p>")
    stops = ",".join(to_hex(colours(k / 4)) for k in range(5))
    bar = f'<span style="background:linear-gradient(90deg,{stops})"></span>'
    legend = f'<p class="legend">weight of a token: {clamp[0]:g} {bar} {clamp[1]:g}</p>'
    return f'<div class="tokens">{"".join(paragraphs)}{legend}</div>'
