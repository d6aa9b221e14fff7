"""The map: composition against recognition of 202 independently evaluated models, with the user's models among them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ..columns import check_comparable
from ..report import MODEL_MARKERS, PALETTE, saved
from ..results import Results
from .papers import why_incomparable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# A mean of scores; a list inside it is a mean that counts as one score.
Mean = list["str | Mean"]

# The authors' averages of scores that compalign also computes; the first two were found by solving for the weights.
COMPOSITION: dict[str, Mean] = {
    "sugarcrepe": ["sugarcrepe/replace_micro", "sugarcrepe/swap_micro", "sugarcrepe/add_micro"],
    "valse": [
        "valse/existence",
        "valse/plurals",
        "valse/counting_macro",
        "valse/relations",
        ["valse/action-replacement", "valse/actant-swap"],
        "valse/coreference_macro",
        "valse/foil-it",
    ],
    "aro": [
        "aro_relation/filtered_macro",
        "aro_attribution/frequent_macro",
        "aro_coco_order/order_lenient",
        "aro_flickr_order/order_lenient",
    ],
    "winoground": ["winoground/group"],
}
RECOGNITION: dict[str, Mean] = {"imagenet": ["zero_shot_imagenet/top1"]}
AXES = {
    "comp_avg": "mean of 12 benchmarks",
    "21_tasks_avg": "mean of 21 sets, zero-shot",
    "sugarcrepe": "SugarCrepe",
    "valse": "VALSE",
    "aro": "ARO",
    "winoground": "Winoground group",
    "imagenet": "ImageNet, zero-shot",
}
FINE_TUNED = "StructuredCLIP"
# The base of each fine-tuned model, where it is known.
BASES = {"NegCLIP": ("ViT-B-32", "openai"), "CE-CLIP": ("ViT-B-32", "openai")}
FAMILIES = {"OpenCLIP": "#56B4E9", "Scaling": "#CC79A7", "LaCLIP": "#009E73", "MobileCLIP": "#F0E442"}
OTHERS = "0.75"
CITATION = "Oh et al. 2024, arXiv 2406.09388"
ACCENT = "#D55E00"
LABEL_DISTANCES = (15, 20, 28, 40, 55, 75, 100, 130)
LABEL_MARGIN, MARKER, DOT_COST, FORBIDDEN = 3, 13, 40, 10_000


class MapModel(NamedTuple):
    """A model on the map: `composition` and `recognition` in percent."""

    arch: str
    pretrained: str
    family: str
    composition: float
    recognition: float


def read_map(
    path: str | Path, composition: Sequence[str] = ("comp_avg",), recognition: Sequence[str] = ("21_tasks_avg",)
) -> list[MapModel]:
    """Read the published averages.

    Args:
        path (`str` or `Path`): `results.csv` of https://github.com/ytaek-oh/vl_compo. It has no licence, so compalign
            does not ship it. Cite the paper where its figures are shown.
        composition, recognition (sequence of `str`): Columns whose mean is the value of the axis.

    Returns:
        `list[MapModel]`

    Raises:
        ValueError: If a column is missing or a value is not a percentage.

    Reference:
        Oh et al. 2024, https://huggingface.co/papers/2406.09388
    """
    models = []
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        needed = ["arch", "pretrained", "family", *composition, *recognition]
        if absent := [column for column in needed if column not in (reader.fieldnames or [])]:
            raise ValueError(f"{path}: no column {', '.join(absent)}; it has {', '.join(reader.fieldnames or [])}")
        for row in reader:
            means = []
            for columns in (composition, recognition):
                values = [_percentage(row[column], f"{path}, line {reader.line_num}, {column}") for column in columns]
                means.append(sum(values) / len(values))
            models.append(MapModel(row["arch"], row["pretrained"], row["family"], *means))
    if not models:
        raise ValueError(f"{path}: no models")
    return models


def shared_columns(results: Sequence[Results]) -> tuple[list[str], list[str]]:
    """Name the columns of the map that can be computed from all results.

    Args:
        results (sequence of `Results`): At least one; different names.

    Returns:
        `tuple[list[str], list[str]]`: columns of composition, and columns of recognition.

    Raises:
        ValueError: If results cannot be compared, or one of the lists would be empty.
    """
    check_comparable(results)
    found = []
    for axis, means in (("composition", COMPOSITION), ("recognition", RECOGNITION)):
        columns = [name for name, mean in means.items() if all(_computable(model, mean) for model in results)]
        if not columns:
            needed = "; or ".join(f"{name}: {', '.join(_keys(mean))}" for name, mean in means.items())
            raise ValueError(
                f"{', '.join(model.model for model in results)} cannot be placed by {axis}; needs complete results of "
                f"{needed}"
            )
        found.append(columns)
    return found[0], found[1]


def place(results: Results, columns: Sequence[str]) -> float:
    """Compute the mean of columns of the map as its authors do.

    Args:
        results (`Results`): Results of a model.
        columns (sequence of `str`): Keys of `COMPOSITION` and `RECOGNITION`.

    Returns:
        `float`: the mean, in percent.
    """
    means = COMPOSITION | RECOGNITION
    return 100 * sum(_mean(results, means[column]) for column in columns) / len(columns)


def plot_map(csv_path: str | Path, path: str | Path | None = None, results: Sequence[Results] = ()) -> "Figure":
    """Draw composition against recognition of the published models, with the user's models among them.

    Without results, the axes are the averages over 12 benchmarks and 21 datasets. With results, they are the means of
    the columns that the results share with the file, so that all points are of the same benchmarks; the labels of the
    axes name them. Fine-tuned models are labelled, with an arrow from their base where it is known.

    Args:
        csv_path (`str` or `Path`): See `read_map`.
        path (`str` or `Path`, *optional*): PNG file to write.
        results (sequence of `Results`): At most seven; different names.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: As `read_map` and `shared_columns`; if there are more than seven results.

    Reference:
        Oh et al. 2024, https://huggingface.co/papers/2406.09388
    """
    from matplotlib.figure import Figure

    if len(results) > len(PALETTE):
        raise ValueError(f"{len(results)} results; at most {len(PALETTE)} can have a colour of their own")
    composition, recognition = shared_columns(results) if results else (["comp_avg"], ["21_tasks_avg"])
    models = read_map(csv_path, composition, recognition)
    figure = Figure(figsize=(10, 7), layout="constrained", dpi=150)
    axes = figure.subplots()
    _draw_families(axes, models)
    own = [(model.model, place(model, recognition), place(model, composition)) for model in results]
    for colour, marker, (_, x, y) in zip(PALETTE, MODEL_MARKERS, own, strict=False):
        axes.plot(x, y, ls="", marker=marker, color=colour, mec="black", ms=12, zorder=5)
    arrows = _arrows(models)
    for start, end in arrows.values():
        style = {"arrowstyle": "-|>", "color": ACCENT, "lw": 1.2, "shrinkA": 5, "shrinkB": 6, "alpha": 0.8}
        axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=3)
    axes.set(xlabel=f"recognition: {_named(recognition)}, %", ylabel=f"composition: {_named(composition)}, %")
    axes.set_title(f"Composition against recognition of {len(models)} published models", loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93", zorder=0)
    axes.margins(0.07)
    axes.legend(loc="lower right", fontsize=9, frameon=False, title=CITATION, title_fontsize=8)
    tuned = [(model.arch, model.recognition, model.composition) for model in models if model.family == FINE_TUNED]
    bases = {f"{BASES[name][0]} ({BASES[name][1]})": start for name, (start, _) in arrows.items()}
    labels = [_Label(*point, "bold") for point in own]
    labels += [_Label(*point, "normal") for point in [*tuned, *((name, x, y) for name, (x, y) in bases.items())]]
    avoided = [(model.recognition, model.composition) for model in models]
    avoided += [point for ends in arrows.values() for point in np.linspace(*ends, num=40)]
    _write_labels(figure, axes, labels, avoided)
    return saved(figure, path)


class _Label(NamedTuple):
    """A name to write beside a point."""

    name: str
    x: float
    y: float
    weight: str


def _draw_families(axes: "Axes", models: Sequence[MapModel]) -> None:
    """Draw one dot per model: large families have colours of their own, fine-tuned models have larger dots."""
    names = [*FAMILIES, FINE_TUNED]
    groups = {"other pre-trained": (OTHERS, 30, [model for model in models if model.family not in names])}
    groups |= {name: (FAMILIES[name], 30, [model for model in models if model.family == name]) for name in FAMILIES}
    groups["fine-tuned for composition"] = (ACCENT, 60, [model for model in models if model.family == FINE_TUNED])
    for name, (colour, size, members) in groups.items():
        if members:
            axes.scatter(
                [model.recognition for model in members],
                [model.composition for model in members],
                s=size,
                color=colour,
                edgecolors="white",
                linewidths=0.6,
                zorder=4 if size > 30 else 2,
                label=f"{name} ({len(members)})",
            )


def _arrows(models: Sequence[MapModel]) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return, per fine-tuned model whose base is known, the positions of the base and of the model."""
    points = {(model.arch, model.pretrained): (model.recognition, model.composition) for model in models}
    tuned = {model.arch: (model.recognition, model.composition) for model in models if model.family == FINE_TUNED}
    return {name: (points[base], tuned[name]) for name, base in BASES.items() if name in tuned and base in points}


def _write_labels(
    figure: "Figure", axes: "Axes", labels: Sequence[_Label], avoided: Sequence[tuple[float, float]]
) -> None:
    """Write names near their points, each with a line to its point."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # a later layout would move the points away from their names
    written = [axes.text(label.x, label.y, label.name, fontsize=9, fontweight=label.weight) for label in labels]
    sizes = [text.get_window_extent().size for text in written]
    for text in written:
        text.remove()
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    legend = cast("Legend", axes.get_legend())
    covered = [legend.get_window_extent().extents, *(np.r_[p - MARKER, p + MARKER] for p in points)]
    centres = place_labels(points, sizes, axes.transData.transform(avoided), axes.bbox.extents, covered)
    for label, point, centre in zip(labels, points, centres, strict=True):
        text = axes.annotate(
            label.name,
            (label.x, label.y),
            (np.array(centre) - point) * 72 / figure.dpi,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            fontweight=label.weight,
            arrowprops={"arrowstyle": "-", "color": "0.4", "lw": 0.7, "shrinkA": 0, "shrinkB": 5},
            zorder=6,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def place_labels(
    points: Sequence[Sequence[float]] | np.ndarray,
    sizes: Sequence[Sequence[float]] | np.ndarray,
    dots: Sequence[Sequence[float]] | np.ndarray,
    frame: Sequence[float] | np.ndarray,
    covered: Sequence[Sequence[float] | np.ndarray] = (),
) -> list[tuple[float, float]]:
    """Find a position for each label: near its point, not on another label, and on as few dots as possible.

    Labels are placed one after the other. Each takes the cheapest of some hundred positions around its point. All
    lengths are in pixels.

    Args:
        points (sequence of `(x, y)`): Points to label.
        sizes (sequence of `(width, height)`): Size of each label.
        dots (sequence of `(x, y)`): Dots that labels should not cover.
        frame (`(left, bottom, right, top)`): Rectangle that contains all labels.
        covered (sequence of `(left, bottom, right, top)`): Rectangles that labels must not overlap.

    Returns:
        `list[tuple[float, float]]`: the centre of each label.
    """
    avoided = np.asarray(dots, dtype=float).reshape(-1, 2)
    taken = [np.asarray(box, dtype=float) for box in covered]
    centres = []
    for point, size in zip(points, sizes, strict=True):
        half = np.asarray(size, dtype=float) / 2 + LABEL_MARGIN
        places = []
        for distance in LABEL_DISTANCES:
            for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
                direction = np.array([np.cos(angle), np.sin(angle)])
                centre = np.asarray(point) + direction * distance + np.clip(2 * direction, -1, 1) * half
                box = np.concatenate([centre - half, centre + half])
                outside = (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any()
                overlaps = sum((box[:2] < other[2:]).all() and (other[:2] < box[2:]).all() for other in taken)
                inside = ((avoided > box[:2]) & (avoided < box[2:])).all(axis=1).sum()
                places.append((FORBIDDEN * (outside + overlaps) + DOT_COST * inside + distance, tuple(centre), box))
        _, centre, box = min(places, key=lambda place: place[0])
        centres.append(centre)
        taken.append(box)
    return centres


def _percentage(text: str, where: str) -> float:
    """Read a value of the file."""
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{where}: {text!r}; must be a percentage") from error
    if not 0 <= value <= 100:
        raise ValueError(f"{where}: {text!r}; must be in 0..100")
    return value


def _keys(mean: Mean) -> list[str]:
    """List the scores of a mean."""
    return [key for part in mean for key in ([part] if isinstance(part, str) else _keys(part))]


def _mean(results: Results, mean: Mean) -> float:
    """Compute a mean of scores and means."""
    values = [results.find(part).value if isinstance(part, str) else _mean(results, part) for part in mean]
    return sum(values) / len(values)


def _computable(results: Results, mean: Mean) -> bool:
    """Whether results have all scores of a mean, on complete benchmarks."""
    keys = _keys(mean)
    return all(key in results.metrics for key in keys) and not any(
        why_incomparable(results, key.partition("/")[0]) for key in keys
    )


def _named(columns: Sequence[str]) -> str:
    """Write the label of an axis."""
    names = " and ".join(AXES[column] for column in columns)
    return f"mean of {names}" if len(columns) > 1 else names
