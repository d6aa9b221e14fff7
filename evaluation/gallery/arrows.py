"""The picture of composition against recognition: an arrow from the first model to each other one, laid out for SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ..columns import Column, columns_of, first_benchmark
from ..results import Results, Score
from .titles import short_names, title_of

# Units of the picture; a phone shows about 0.85 pixels per unit.
WIDTH, HEIGHT = 400, 345
LEFT, RIGHT, TOP, BOTTOM = 48, 390, 10, 292
LETTER, LINE = 7.2, 15  # mean width of a letter of a label, height of a label
RADIUS, HEAD = 5, 9  # of a point, length of an arrow's head
LONGEST_LABEL, LONGEST_TITLE = 24, 50  # letters
LEAST_SPAN = 4  # percentage points that an axis shows at least

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Arrow:
    """An arrow: its line, and the corners of its head."""

    model: int
    start: Place
    end: Place
    head: Sequence[Place]


@dataclass(frozen=True)
class Mark:
    """A model: its point, the box of its two intervals, and its label."""

    model: int
    name: str
    label: str
    point: Place
    interval: Box
    label_at: Place


@dataclass(frozen=True)
class Picture:
    """Everything that the picture shows, in its units; ticks are positions with their percentages."""

    marks: Sequence[Mark]
    arrows: Sequence[Arrow]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_title: str
    y_title: str


def picture(results: Sequence[Results]) -> Picture | str:
    """Lay out composition against recognition, as the second panel of `plot_results` shows it.

    Args:
        results (sequence of `Results`): Results of the models; the arrows start at the first one.

    Returns:
        `Picture`, or the reason why there is none, as the end of a sentence.
    """
    chosen: dict[str, tuple[str, Column]] = {}
    for ability, place in (("recognition", 0), ("composition", -1)):
        benchmark = first_benchmark(results, ability)
        if benchmark is None:
            return f"none of the benchmarks tests {ability}"
        columns = [column for column in columns_of(results, benchmark) if column.reference]
        if not columns:
            return f"too few items of {benchmark} were scored"
        chosen[ability] = benchmark, columns[place]
    (x_benchmark, across), (y_benchmark, up) = chosen["recognition"], chosen["composition"]
    both = enumerate(zip(across.scores, up.scores, strict=True))
    pairs = {k: (x, y) for k, (x, y) in both if x is not None and y is not None}
    if 0 not in pairs or len(pairs) < 2:
        return "it compares the first model with others, and needs both scores of at least two models"
    x_low, x_high = _span([x for x, _ in pairs.values()])
    y_low, y_high = _span([y for _, y in pairs.values()])

    def at(x: float, y: float) -> Place:
        return (
            LEFT + (RIGHT - LEFT) * (100 * x - x_low) / (x_high - x_low),
            BOTTOM - (BOTTOM - TOP) * (100 * y - y_low) / (y_high - y_low),
        )

    points = {k: at(x.value, y.value) for k, (x, y) in pairs.items()}
    boxes = {k: (*at(x.interval[0], y.interval[1]), *at(x.interval[1], y.interval[0])) for k, (x, y) in pairs.items()}
    arrows = [arrow for k, point in points.items() if k and (arrow := _arrow(k, points[0], point))]
    names = short_names(results)
    labels = {k: _shortened(names[k]) for k in pairs}
    places = _label_places(labels, points, boxes, arrows)
    return Picture(
        marks=[Mark(k, results[k].model, labels[k], points[k], boxes[k], places[k]) for k in pairs],
        arrows=arrows,
        x_ticks=[(at(tick / 100, 0)[0], f"{tick:g}") for tick in _ticks(x_low, x_high)],
        y_ticks=[(at(0, tick / 100)[1], f"{tick:g}") for tick in _ticks(y_low, y_high)],
        x_title=_axis_title("recognition", title_of(results, x_benchmark), across.title),
        y_title=_axis_title("composition", title_of(results, y_benchmark), up.title),
    )


def _span(scores: Sequence[Score]) -> tuple[float, float]:
    """Return the percentages that an axis runs from and to: all intervals, with room around them."""
    low = 100 * min(score.interval[0] for score in scores)
    high = 100 * max(score.interval[1] for score in scores)
    room = max(0.12 * (high - low), (LEAST_SPAN - high + low) / 2, 0.5)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round percentages inside a span, never below 0 or above 100."""
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if (high - low) / step <= 6 or step == 50)
    first, last = math.ceil(max(low, 0) / step), math.floor(min(high, 100) / step)
    return [number * step for number in range(first, last + 1)]


def _shortened(name: str) -> str:
    """Shorten a name to a label: its end tells models apart."""
    return name if len(name) <= LONGEST_LABEL else f"…{name[1 - LONGEST_LABEL :]}"


def _axis_title(ability: str, benchmark: str, score: str) -> str:
    """Title an axis: the benchmark is left out where there is no room for it."""
    title = f"{ability}: {benchmark}, {score}, %"
    return title if len(title) <= LONGEST_TITLE else f"{ability}: {score}, %"


def _arrow(model: int, start: Place, end: Place) -> Arrow | None:
    """Draw an arrow between the edges of two points, or none if they touch."""
    length = math.dist(start, end)
    if length < 2 * RADIUS + HEAD:
        return None
    dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length

    def along(distance: float, aside: float = 0.0) -> Place:
        return start[0] + distance * dx - aside * dy, start[1] + distance * dy + aside * dx

    tip = length - RADIUS - 2
    head = [along(tip), along(tip - HEAD, HEAD / 2.2), along(tip - HEAD, -HEAD / 2.2)]
    return Arrow(model, along(RADIUS + 2), along(tip - HEAD + 1), head)


def _label_places(
    labels: dict[int, str], points: dict[int, Place], boxes: dict[int, Box], arrows: Sequence[Arrow]
) -> dict[int, Place]:
    """Place each label beside its point, where it covers no other label or point, and few lines."""
    lines = [(arrow.start, arrow.head[0]) for arrow in arrows]
    for (x, y), (left, top, right, bottom) in zip(points.values(), boxes.values(), strict=True):
        lines += [((left, y), (right, y)), ((x, top), (x, bottom))]
    placed: dict[int, Box] = {}
    for k, label in labels.items():
        others = [*placed.values(), *((x - 6, y - 6, x + 6, y + 6) for x, y in points.values())]
        candidates = list(_candidates(points[k], LETTER * len(label)))
        costs = [_cost(box, points[k], others, lines) for box in candidates]
        placed[k] = candidates[costs.index(min(costs))]
    return {k: (left, bottom - 3.5) for k, (left, _, _, bottom) in placed.items()}


def _candidates(point: Place, width: float) -> list[Box]:
    """Return boxes around a point for a label of some width, the nearest first."""
    x, y = point
    found = []
    for distance, aside, down in product((9, 20, 34), (1, -1, 0), (0, -1, 1, -0.5, 0.5)):
        if aside or down in (-1, 1):
            left = x + distance if aside > 0 else x - distance - width if aside < 0 else x - width / 2
            middle = y + down * (distance + LINE / 2)
            found.append((left, middle - LINE / 2, left + width, middle + LINE / 2))
    return found


def _cost(box: Box, point: Place, others: Sequence[Box], lines: Sequence[tuple[Place, Place]]) -> float:
    """Rate a place for a label: leaving the picture and covering others is worst, covering lines is bad."""
    left, top, right, bottom = box
    outside = left < LEFT + 2 or right > RIGHT or top < TOP or bottom > BOTTOM - 2
    covered = sum(left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in others)
    crossed = sum(_share_inside(box, *line) for line in lines)
    away = math.dist(point, ((left + right) / 2, (top + bottom) / 2))
    return 10_000 * outside + 1_000 * covered + 100 * crossed + away / 10


def _share_inside(box: Box, start: Place, end: Place) -> float:
    """Return the length of a line inside a box, in heights of a label, to a twentieth of the line."""
    left, top, right, bottom = box
    steps = [k / 20 for k in range(21)]
    inside = sum(
        left < start[0] + step * (end[0] - start[0]) < right and top < start[1] + step * (end[1] - start[1]) < bottom
        for step in steps
    )
    return inside / len(steps) * math.dist(start, end) / LINE
