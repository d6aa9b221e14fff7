"""Reports of several models side by side: a table and a figure, both with blind baselines."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import (
    Column,
    baseline_names,
    check_comparable,
    columns_of,
    first_benchmark,
    percent,
    suite_columns,
    suite_notes,
    suites_of,
)
from .results import Results, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Scores of the benchmarks of generated scenes, to weigh a gain in composition against a loss in recognition.
COMPOSITION, RETENTION = "scenes_composition/all_macro", "scenes_zero_shot/top1"
# Okabe and Ito's palette, which suits any colour vision; black and grey are reserved for the baselines.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
MODEL_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
BASELINE_MARKERS = ("D", "^", "v", "s", "P", "X", "p", "h")


def table(results: Sequence[Results]) -> str:
    """Lay out results as aligned Markdown, one table per suite: models as rows, then blind baselines and chance.

    Example: the table of one model on two of the scores.

    ```
    ### Generated scenes

    | %                   | swap obj | swap att |
    | :------------------ | -------: | -------: |
    | base                |     58.3 |     61.0 |
    | blind: shorter text |     50.0 |     50.0 |
    | chance              |     50.0 |     50.0 |
    ```

    Args:
        results (sequence of `Results`): At least one; different names.

    Returns:
        `str`: percentages with one decimal, and below each table the notes that it needs. If too few items of a
        benchmark were scored for a headline, the table says how many instead: "- (255 of 7,511)".

    Raises:
        ValueError: If there is no result, two have the same name, or two scored a benchmark on different items.
    """
    check_comparable(results)
    return "\n\n".join(_suite_table(results, suite) for suite in suites_of(results)) + "\n"


def _suite_table(results: Sequence[Results], suite: str) -> str:
    """Lay out the table of one suite with its notes."""
    columns = suite_columns(results, suite)
    references = [column.reference for column in columns]
    rows = [["%", *(column.title for column in columns)]]
    rows += [[model.model, *(column.cells[k] for column in columns)] for k, model in enumerate(results)]
    for name in baseline_names(columns):
        found = [reference.baselines.get(name, {}) if reference else {} for reference in references]
        rows.append([f"blind: {name}", *(percent(baseline.get("half_credit")) for baseline in found)])
    rows.append(["chance", *(percent(reference.chance if reference else None) for reference in references)])
    return "\n\n".join(
        [f"### {suite}", markdown(rows), "\n".join(f"- {note}" for note in suite_notes(results, suite, columns))]
    )


def plot_results(
    results: Sequence[Results],
    path: str | Path | None = None,
    composition: str | None = None,
    retention: str | None = None,
) -> "Figure":
    """Draw the scores of a composition benchmark, and composition against recognition.

    In the first panel bars are models, with 95 % intervals, marks are blind baselines, and the dashed line is chance.
    The second panel shows the gain in composition and the loss in recognition, with an arrow from the first model to
    each other one; it is left out without a recognition benchmark.

    Args:
        results (sequence of `Results`): At least one, at most seven; different names.
        path (`str` or `Path`, *optional*): PNG file to write.
        composition (`str`, *optional*): Benchmark of the bars; its last column is the y-axis of the second panel.
            Default: the first composition benchmark.
        retention (`str`, *optional*): Benchmark whose first column is the x-axis of the second panel. Default: the
            first recognition benchmark.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: If there is no result or more than seven, two have the same name, two scored a benchmark on
            different items, or no result has the composition benchmark on enough of its items.
    """
    # The object interface needs no display and does not touch the user's pyplot state.
    from matplotlib.figure import Figure

    check_comparable(results)
    if len(results) > len(PALETTE):
        raise ValueError(f"{len(results)} results; at most {len(PALETTE)} can have a colour of their own")
    composition = composition or first_benchmark(results, "composition")
    retention = retention or first_benchmark(results, "recognition")
    columns = [column for column in columns_of(results, composition) if column.reference]
    if not columns:
        wanted = f"the benchmark {composition}" if composition else "a composition benchmark"
        raise ValueError(f"no result has {wanted} on enough of its items")
    kept = [column for column in columns_of(results, retention) if column.reference]
    figure = Figure(figsize=(14 if kept else 10, 4.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, 2 if kept else 1, squeeze=False, width_ratios=[2.4, 1] if kept else [1])[0]
    handles = _draw_bars(panels[0], results, columns)
    if kept:
        _draw_scatter(panels[1], results, columns[-1], kept[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    return saved(figure, path)


def saved(figure: "Figure", path: str | Path | None) -> "Figure":
    """Save a figure as a PNG file, if a path is given, and return it."""
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def _draw_bars(axes: "Axes", results: Sequence[Results], columns: Sequence[Column]) -> list:
    """Draw one group of bars per column, with intervals, blind baselines and chance; return the legend's handles."""
    centres = np.arange(len(columns))
    width = 0.8 / len(results)
    handles: list[Any] = []
    for k, model in enumerate(results):
        shown = [(place, score) for place, column in enumerate(columns) if (score := column.scores[k]) is not None]
        if not shown:
            continue
        bars = axes.bar(
            [place + (k + 0.5) * width - 0.4 for place, _ in shown],
            [100 * score.value for _, score in shown],
            width * 0.92,
            yerr=np.concatenate([error_bar(score) for _, score in shown], axis=1),
            error_kw={"elinewidth": 0.8, "alpha": 0.6},
            color=PALETTE[k],
            label=model.model,
        )
        handles.append(bars)
    references = [column.reference for column in columns if column.reference]
    names = dict.fromkeys(name for reference in references for name in reference.baselines)
    for k, (name, marker) in enumerate(zip(names, cycle(BASELINE_MARKERS), strict=False)):
        marked = [place for place, reference in enumerate(references) if name in reference.baselines]
        marks = axes.scatter(
            centres[marked] + 0.8 * ((k + 1) / (len(names) + 1) - 0.5),
            [100 * references[place].baselines[name]["half_credit"] for place in marked],
            marker=marker,
            s=30,
            color="black",
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
            label=f"blind: {name}",
        )
        handles.append(marks)
    # One step per column, since chance may differ between columns.
    chance = [100 * reference.chance for reference in references]
    handles += axes.step(
        np.arange(len(columns) + 1) - 0.5, [chance[0], *chance], color="0.35", ls="--", lw=1, label="chance"
    )
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(0, 100), ylabel="accuracy, %")
    axes.set_xticks(centres, [column.title.replace(" ", "\n", 1) for column in columns])
    axes.set_title("Composition", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def _draw_scatter(axes: "Axes", results: Sequence[Results], composition: Column, retention: Column) -> None:
    """Draw one point per model, composition against recognition, and an arrow from the first model to each other."""
    start = retention.scores[0], composition.scores[0]
    for k in range(len(results)):
        x, y = retention.scores[k], composition.scores[k]
        if x is not None and y is not None:
            axes.errorbar(
                100 * x.value,
                100 * y.value,
                xerr=error_bar(x),
                yerr=error_bar(y),
                fmt=MODEL_MARKERS[k],
                color=PALETTE[k],
                markersize=9,
                elinewidth=0.8,
            )
            if k and start[0] is not None and start[1] is not None:
                axes.annotate(
                    "",
                    xy=(100 * x.value, 100 * y.value),
                    xytext=(100 * start[0].value, 100 * start[1].value),
                    arrowprops={"arrowstyle": "-|>", "color": PALETTE[k], "lw": 1.5, "shrinkA": 7, "shrinkB": 7},
                )
    if composition.reference:
        axes.axhline(100 * composition.reference.chance, color="0.35", ls="--", lw=1)
    axes.margins(0.15)
    axes.set(xlabel=f"recognition: {retention.title}, %", ylabel=f"composition: {composition.title}, %")
    axes.set_title("Composition against recognition", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def error_bar(score: Score) -> np.ndarray:
    """Return the lengths of an error bar in percentage points, of shape (2, 1): below and above the value."""
    return 100 * np.abs(np.array(score.interval) - score.value)[:, None]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Align rows as a Markdown table whose header is the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]) + " |" for row in rows
    ]
    rule = "| " + " | ".join([":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])
