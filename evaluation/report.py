"""Reports of several models side by side: a table and a figure, each with its blind baselines."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .results import BenchmarkResult, Results, Score

# Okabe and Ito's palette, told apart by people of any colour vision; black and grey are kept for the baselines.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
MODEL_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
BASELINE_MARKERS = ("D", "^", "v", "s", "P", "X", "p", "h")


class _Column(NamedTuple):
    """A column of a table: the headline of every model that has one, and what is printed in its cell."""

    title: str
    scores: list[Score | None]
    cells: list[str]

    @property
    def reference(self) -> Score | None:
        """Any model's score: chance and blind baselines are the same for all."""
        return next(filter(None, self.scores), None)


def table(results: Sequence[Results]) -> str:
    """Lay out results as aligned Markdown: models as rows, then blind baselines and chance; one table a suite.

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
        `str`: percentages with one decimal, and under each table what is needed to read it. Where too few items of a
        benchmark were scored for a headline, the table says how many instead: "- (255 of 7,511)".

    Raises:
        ValueError: If there is no result, two have the same name, or two scored a benchmark on different items.
    """
    check_comparable(results)
    suites = dict.fromkeys(result.suite for model in results for result in model.benchmarks.values())
    return "\n\n".join(_suite_table(results, suite) for suite in suites) + "\n"


def _suite_table(results: Sequence[Results], suite: str) -> str:
    """Lay out the table of one suite with its notes."""
    columns = [column for benchmark in _benchmarks(results, suite) for column in _columns(results, benchmark)]
    references = [column.reference for column in columns]
    rows = [["%", *(column.title for column in columns)]]
    rows += [[model.model, *(column.cells[k] for column in columns)] for k, model in enumerate(results)]
    for name in dict.fromkeys(name for reference in references if reference for name in reference.baselines):
        credits = [reference and reference.baselines.get(name, {}).get("half_credit") for reference in references]
        rows.append([f"blind: {name}", *map(_percent, credits)])
    rows.append(["chance", *(_percent(reference and reference.chance) for reference in references)])
    return "\n\n".join(
        [f"### {suite}", markdown(rows), "\n".join(f"- {note}" for note in _notes(results, suite, columns))]
    )


def _notes(results: Sequence[Results], suite: str, columns: Sequence[_Column]) -> list[str]:
    """Say what must be known to read a table."""
    notes = []
    if scores := [score for column in columns for score in column.scores if score is not None]:
        widest = max(max(score.value - score.interval[0], score.interval[1] - score.value) for score in scores)
        ties = max((score.tie_rate for score in scores if score.tie_rate is not None), default=0.0)
        sizes = {score.n for score in scores}
        notes += [
            f"{' to '.join(f'{n:,}' for n in sorted({min(sizes), max(sizes)}))} items or queries a score; "
            f"95 % bootstrap intervals reach at most {100 * widest:.1f} points to either side.",
            f"Ties are misses for models (at most {100 * ties:.2f} % of items); blind baselines get half of each tie.",
        ]
    for model in results:
        activation, truncated = " and ".join(dict.fromkeys(model.activation.values())), model.encoded["texts_truncated"]
        notes.append(f"{model.model}: activation {activation}, {model.dtype}, {truncated} texts truncated.")
        notes += [f"{model.model}: {note}." for note in model.notes]
    for model in results:
        for name in _benchmarks([model], suite):
            notes += [f"{model.model}, {name}: {note}." for note in model.benchmarks[name].notes]
    return notes


def plot_results(
    results: Sequence[Results],
    path: str | Path,
    composition: str = "scenes_composition",
    retention: str = "scenes_zero_shot",
) -> None:
    """Draw two panels to a PNG file: accuracy by kind of negative caption, and composition against retention.

    Bars are the models, with 95 % intervals; marks across each group are what blind baselines reach, the dashed line is
    chance. The second panel shows what fine-tuning gained in composition and what it lost elsewhere; it is left out if
    no model has both benchmarks.

    Args:
        results (sequence of `Results`): At least one, at most seven; different names.
        path (`str` or `Path`): PNG file to write.
        composition (`str`): Benchmark of caption choices.
        retention (`str`): Benchmark whose first column is the ability to be kept.

    Raises:
        ValueError: If there is no result or more than seven, two have the same name, two scored a benchmark on
            different items, or none has the composition benchmark on enough of its items.
    """
    # The object interface needs no display and leaves the user's own pyplot state alone.
    from matplotlib.figure import Figure

    check_comparable(results)
    if len(results) > len(PALETTE):
        raise ValueError(f"{len(results)} results; at most {len(PALETTE)} can be told apart by colour")
    columns = [column for column in _columns(results, composition) if column.reference]
    if not columns:
        raise ValueError(f"no result has the benchmark {composition}, or none on enough of its items")
    kept = [column for column in _columns(results, retention) if column.reference]
    figure = Figure(figsize=(14 if kept else 10, 4.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, 2 if kept else 1, squeeze=False, width_ratios=[2.4, 1] if kept else [1])[0]
    handles = _draw_bars(panels[0], results, columns)
    if kept:
        _draw_scatter(panels[1], results, columns[-1], kept[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    figure.savefig(path, format="png")


def _draw_bars(axes, results: Sequence[Results], columns: Sequence[_Column]) -> list:
    """Draw a group of bars a column, with intervals, blind baselines and chance; return what a legend needs."""
    centres = np.arange(len(columns))
    width = 0.8 / len(results)
    handles = []
    for k, model in enumerate(results):
        shown = [
            (centre, column.scores[k]) for centre, column in zip(centres, columns, strict=True) if column.scores[k]
        ]
        if not shown:
            continue
        bars = axes.bar(
            [centre + (k + 0.5) * width - 0.4 for centre, _ in shown],
            [100 * score.value for _, score in shown],
            width * 0.92,
            yerr=np.concatenate([error_bar(score) for _, score in shown], axis=1),
            error_kw={"elinewidth": 0.8, "alpha": 0.6},
            color=PALETTE[k],
            label=model.model,
        )
        handles.append(bars)
    baselines = list(columns[0].reference.baselines)
    for k, name in enumerate(baselines):
        marks = axes.scatter(
            centres + 0.8 * ((k + 1) / (len(baselines) + 1) - 0.5),
            [100 * column.reference.baselines[name]["half_credit"] for column in columns],
            marker=BASELINE_MARKERS[k],
            s=30,
            color="black",
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
            label=f"blind: {name}",
        )
        handles.append(marks)
    # One step a column, for chance may differ between them.
    chance = [100 * column.reference.chance for column in columns]
    handles += axes.step(
        np.arange(len(columns) + 1) - 0.5, [chance[0], *chance], color="0.35", ls="--", lw=1, label="chance"
    )
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(0, 100), ylabel="accuracy, %")
    axes.set_xticks(centres, [column.title.replace(" ", "\n", 1) for column in columns])
    axes.set_title("Which caption is true? By kind of false caption", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def _draw_scatter(axes, results: Sequence[Results], composition: _Column, retention: _Column) -> None:
    """Draw a point a model, in its colour: the mean of composition against what was to be kept."""
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
    axes.axhline(100 * composition.reference.chance, color="0.35", ls="--", lw=1)
    axes.margins(0.15)
    axes.set(xlabel=f"kept: {retention.title}, %", ylabel=f"composition: {composition.title}, %")
    axes.set_title("Composition against retention", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def error_bar(score: Score) -> np.ndarray:
    """Return the lengths of an error bar in percent, of shape (2, 1): below and above the value."""
    return 100 * np.abs(np.array(score.interval) - score.value)[:, None]


def _columns(results: Sequence[Results], benchmark: str) -> list[_Column]:
    """Collect the columns of a benchmark over the models; none where no model has it."""
    found = [model.benchmarks.get(benchmark) for model in results]
    titles = {
        name: title for result in found if result for name, title in result.columns.items() if name in result.scores
    }
    return [
        _Column(
            title,
            [result.headline(name) if result else None for result in found],
            [headline_cell(result, name) for result in found],
        )
        for name, title in titles.items()
    ]


def headline_cell(result: BenchmarkResult | None, name: str) -> str:
    """Print a score in percent; a dash where there is none, with the items found where they are too few."""
    if result is None or result.covered:
        score = result and result.headline(name)
        return _percent(score and score.value)
    return f"- ({result.n_found:,} of {result.n_listed:,})"


def _benchmarks(results: Sequence[Results], suite: str) -> list[str]:
    """Name the benchmarks of a suite, in the order in which they appear."""
    return list(
        dict.fromkeys(name for model in results for name, result in model.benchmarks.items() if result.suite == suite)
    )


def check_comparable(results: Sequence[Results]) -> None:
    """Refuse results whose rows cannot be told apart, or that come from different items.

    Args:
        results (sequence of `Results`): To be shown side by side.

    Raises:
        ValueError: If there is no result, two have the same name, or two scored a benchmark on different items.
    """
    names = [model.model for model in results]
    if not results or len(set(names)) < len(names):
        raise ValueError(f"results of the models {names}; needs at least one, under different names")
    hashes: dict[str, dict[str, list[str]]] = {}
    for model in results:
        for name, result in model.benchmarks.items():
            hashes.setdefault(name, {}).setdefault(result.content_hash, []).append(model.model)
    for name, models in hashes.items():
        if len(models) > 1:
            raise ValueError(f"{name} was scored on different items (content hash: models): {models}")


def _percent(share: float | None) -> str:
    """Print a share as a percentage, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Align rows as a Markdown table, the first row being the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]) + " |" for row in rows
    ]
    rule = "| " + " | ".join([":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])
