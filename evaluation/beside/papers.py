"""Published results: the rows of papers with source, averages and known errors, and a user's results beside them.

The numbers are in papers.json, as printed. Each table there has its place (`source`, `table`), the origin of its
numbers (`mark`: "tab" means read from this table), the averages behind them (`aggregation`), and the known errors of
the whole table, of a row or of a cell. `items` are the sizes of the complete benchmarks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..columns import check_comparable, headline_cell
from ..report import MODEL_MARKERS, PALETTE, markdown, saved
from ..results import HEADLINE_COVERAGE, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONTENT: dict[str, Any] = json.loads(files(__package__).joinpath("papers.json").read_text(encoding="utf-8"))
PUBLISHED_ITEMS: dict[str, int] = _CONTENT["items"]
BESIDE = 0.17  # distance of marks from the line of their score: the user's models above, published models below
PUBLISHED_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "$+$", "$Y$")
GREY = "0.45"


@dataclass(frozen=True)
class PublishedRow:
    """A row of a paper's table.

    Args:
        model (`str`): Name of the model.
        source (`str`): Short title of the paper, or name of the repository.
        url (`str`): Address of the source.
        table (`str`): The table, as far as known.
        mark (`str`): Origin of the numbers; "tab" means read from this table.
        aggregation (`str`): Averages behind the numbers.
        scores (`dict[str, float]`): Scores as printed, mostly percentages, by their key in `Results.metrics`. A
            quantity that compalign does not compute has a key of its own.
        errors (`tuple[str, ...]`): Known errors of the whole row, as sentences.
        cell_errors (`dict[str, tuple[str, ...]]`): Known errors of single scores.
    """

    model: str
    source: str
    url: str
    table: str
    mark: str
    aggregation: str
    scores: dict[str, float]
    errors: tuple[str, ...]
    cell_errors: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """Model and source, since several papers print the same model."""
        return f"{self.model} ({self.source})"


def published_rows(model: str | None = None, benchmark: str | None = None) -> list[PublishedRow]:
    """Look up published rows.

    Args:
        model (`str`, *optional*): Name of a model. Default: all models.
        benchmark (`str`, *optional*): Name of a benchmark: rows without its scores, and other scores, are left out.
            Default: all benchmarks.

    Returns:
        `list[PublishedRow]`: in the order of the tables.
    """
    rows = []
    for table in _CONTENT["tables"]:
        source = _CONTENT["sources"][table["source"]]
        for name, values in table["rows"].items():
            cell_errors = table.get("cell_errors", {}).get(name, {})
            scores = {
                key: value
                for key, value in zip(table["scores"], values, strict=True)
                if benchmark is None or key.partition("/")[0] == benchmark
            }
            if scores and model in (None, name):
                rows.append(
                    PublishedRow(
                        name,
                        source["title"],
                        source["url"],
                        table["table"],
                        table["mark"],
                        table["aggregation"],
                        scores,
                        _sentences(table.get("errors", []) + table.get("row_errors", {}).get(name, [])),
                        {key: _sentences(errors) for key, errors in cell_errors.items() if key in scores},
                    )
                )
    return rows


def why_incomparable(results: Results, benchmark: str) -> str | None:
    """Say why the scores of a benchmark cannot be compared with published ones, which are of the complete set.

    Args:
        results (`Results`): Results of one model.
        benchmark (`str`): One of its benchmarks.

    Returns:
        `str`, or `None` if they can be compared.
    """
    result = results.benchmarks[benchmark]
    complete = max(PUBLISHED_ITEMS.get(benchmark, 0), result.n_listed)
    if result.n_found < HEADLINE_COVERAGE * complete:
        return f"{result.n_found:,} of {complete:,} items"
    if not _shared([results], [benchmark]):
        return "no published row"
    return None


def published_table(results: Sequence[Results]) -> str:
    """Lay out results below the papers' rows as aligned Markdown: one table per suite, with errors as footnotes.

    Micro averages are left out: papers compute them differently, and beside macro averages they would mislead.

    Args:
        results (sequence of `Results`): At least one; different names.

    Returns:
        `str`: percentages with one decimal; a number in brackets is a footnote.

    Raises:
        ValueError: If results cannot be compared with one another, or with no published row.
    """
    parts: list[str] = []
    excluded: list[str] = []
    for suite, benchmarks in _comparable_suites(results, excluded).items():
        keys = _shared(results, benchmarks)
        rows = [row for row in published_rows() if keys & row.scores.keys()]
        order = [key for key in dict.fromkeys(key for row in rows for key in row.scores) if key in keys]
        notes: dict[str, int] = {}
        lines = [["%", *(_title(results, key) for key in order)]]
        lines += [[row.name + _footnote(row.errors, notes), *(_cell(row, key, notes) for key in order)] for row in rows]
        lines += [[model.model, *(_own_cell(model, key) for key in order)] for model in results]
        sources = dict.fromkeys(f"{row.source}, {row.table} ({row.url}): {row.aggregation}." for row in rows)
        below = [*(f"[{number}] {error}." for error, number in notes.items()), *sources]
        parts.append("\n\n".join([f"### {suite}, beside published rows", markdown(lines), _bullets(below)]))
    if excluded:
        parts.append("Not compared with published rows:\n\n" + _bullets(excluded))
    return "\n\n".join(parts) + "\n"


def plot_published(results: Sequence[Results], path: str | Path | None = None) -> "Figure":
    """Draw results and the papers' rows: one panel per suite, one line per score.

    The user's models are coloured. Published models are grey, and hollow where an error of the number is known.

    Args:
        results (sequence of `Results`): At least one, at most seven; different names.
        path (`str` or `Path`, *optional*): PNG file to write.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: As `published_table`; if there are more than seven results.
    """
    from matplotlib.figure import Figure

    if len(results) > len(PALETTE):
        raise ValueError(f"{len(results)} results; at most {len(PALETTE)} can have a colour of their own")
    suites = {suite: _shared(results, names) for suite, names in _comparable_suites(results, []).items()}
    rows = [row for row in published_rows() if set().union(*suites.values()) & row.scores.keys()]
    models = list(dict.fromkeys(row.model for row in rows))
    heights = [len(keys) for keys in suites.values()]
    figure = Figure(figsize=(9, 1.6 + 0.42 * sum(heights) + 0.7 * len(suites)), layout="constrained", dpi=150)
    panels = figure.subplots(len(suites), 1, squeeze=False, height_ratios=[height + 1 for height in heights])[:, 0]
    for axes, (suite, keys) in zip(panels, suites.items(), strict=True):
        order = [key for key in dict.fromkeys(key for row in rows for key in row.scores) if key in keys]
        for row in rows:
            for y, key in enumerate(order):
                if key in row.scores:
                    flawed = row.errors or row.cell_errors.get(key)
                    marker = PUBLISHED_MARKERS[models.index(row.model) % len(PUBLISHED_MARKERS)]
                    axes.plot(
                        row.scores[key],
                        y + BESIDE,
                        ls="",
                        marker=marker,
                        mec=GREY,
                        mfc="none" if flawed else GREY,
                        ms=7,
                    )
        for colour, marker, model in zip(PALETTE, MODEL_MARKERS, results, strict=False):
            shown = [(100 * model.find(key).value, y - BESIDE) for y, key in enumerate(order) if key in model.metrics]
            axes.plot(*zip(*shown, strict=True), ls="", marker=marker, color=colour, ms=9, zorder=3)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="accuracy or recall, %")
        axes.set_yticks(range(len(order)), [_title(results, key) for key in order])
        axes.set_title(f"{suite}, beside published rows", loc="left", fontsize=11)
        axes.grid(axis="y", color="0.9", zorder=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.legend(handles=_legend(models, results), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return saved(figure, path)


def _comparable_suites(results: Sequence[Results], excluded: list[str]) -> dict[str, list[str]]:
    """List, per suite, the benchmarks that can be compared with published rows; append why others cannot."""
    check_comparable(results)
    suites: dict[str, list[str]] = {}
    for model in results:
        for name, result in model.benchmarks.items():
            if reason := why_incomparable(model, name):
                excluded.append(f"{model.model}, {name}: {reason}.")
            elif name not in suites.setdefault(result.suite, []):
                suites[result.suite].append(name)
    if not suites:
        raise ValueError(f"no results can be compared with published rows: {' '.join(excluded).rstrip('.')}")
    return suites


def _shared(results: Sequence[Results], benchmarks: Sequence[str]) -> set[str]:
    """Return the keys of the benchmarks' scores that both results and published rows have."""
    own = {key for model in results for key in model.metrics if key.partition("/")[0] in benchmarks}
    return {key for row in published_rows() for key in row.scores if key in own and not key.endswith("_micro")}


def _title(results: Sequence[Results], key: str) -> str:
    """Return the title of a score: the papers' title, that of its column, or its name in words."""
    benchmark, _, name = key.partition("/")
    columns = next(model.benchmarks[benchmark].columns for model in results if key in model.metrics)
    return _CONTENT["titles"].get(key) or columns.get(name) or name.replace("_", " ")


def _own_cell(model: Results, key: str) -> str:
    """Print a score of the user's model, if it can be compared with published ones."""
    benchmark, _, name = key.partition("/")
    if benchmark not in model.benchmarks or why_incomparable(model, benchmark):
        return "-"
    return headline_cell(model.benchmarks[benchmark], name)


def _cell(row: PublishedRow, key: str, notes: dict[str, int]) -> str:
    """Print a published score with its footnotes."""
    if key not in row.scores:
        return "-"
    return f"{row.scores[key]:.1f}{_footnote(row.cell_errors.get(key, ()), notes)}"


def _footnote(errors: Sequence[str], notes: dict[str, int]) -> str:
    """Number errors in the order of their first occurrence."""
    numbers = [notes.setdefault(error, len(notes) + 1) for error in errors]
    return f" [{', '.join(map(str, numbers))}]" if numbers else ""


def _sentences(errors: Sequence[str]) -> tuple[str, ...]:
    """Look up the sentences of errors."""
    return tuple(_CONTENT["errors"][error] for error in errors)


def _bullets(lines: Sequence[str]) -> str:
    """Write a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def _legend(models: Sequence[str], results: Sequence[Results]) -> list:
    """Make the legend's handles: one per model, and one that explains hollow marks."""
    from matplotlib.lines import Line2D

    own = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=9, label=model.model)
        for colour, marker, model in zip(PALETTE, MODEL_MARKERS, results, strict=False)
    ]
    published = [
        Line2D([], [], ls="", marker=PUBLISHED_MARKERS[k % len(PUBLISHED_MARKERS)], color=GREY, ms=7, label=name)
        for k, name in enumerate(models)
    ]
    hollow = Line2D([], [], ls="", marker="o", mec=GREY, mfc="none", ms=7, label="hollow: known error")
    return [*own, *published, hollow]
