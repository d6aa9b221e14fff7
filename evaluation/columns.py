"""Scores of several models as the columns of a table: shared by the Markdown table, the figure and the page."""

from collections.abc import Sequence
from typing import NamedTuple

from .results import BenchmarkResult, Results, Score


class Column(NamedTuple):
    """A column of a table: the headline and the printed cell of every model."""

    title: str
    scores: list[Score | None]
    cells: list[str]

    @property
    def reference(self) -> Score | None:
        """The first model's score: chance and blind baselines are the same for all."""
        return next(filter(None, self.scores), None)


def suites_of(results: Sequence[Results]) -> list[str]:
    """Name the suites, in the order of their first occurrence."""
    return list(dict.fromkeys(result.suite for model in results for result in model.benchmarks.values()))


def suite_columns(results: Sequence[Results], suite: str) -> list[Column]:
    """Collect the columns of all benchmarks of a suite."""
    return [column for benchmark in _benchmarks(results, suite) for column in columns_of(results, benchmark)]


def baseline_names(columns: Sequence[Column]) -> list[str]:
    """Name the blind baselines of any column, in the order of their first occurrence."""
    return list(dict.fromkeys(name for column in columns if column.reference for name in column.reference.baselines))


def first_benchmark(results: Sequence[Results], ability: str) -> str | None:
    """Name the first benchmark of an ability.

    Args:
        results (sequence of `Results`): Results to search, in their order.
        ability (`str`): "composition" or "recognition".

    Returns:
        `str`, or `None` if no result has such a benchmark.
    """
    found = (name for model in results for name, result in model.benchmarks.items() if result.ability == ability)
    return next(found, None)


def columns_of(results: Sequence[Results], benchmark: str | None) -> list[Column]:
    """Collect the columns of a benchmark over the models; the list is empty if no model has it."""
    found = [model.benchmarks.get(benchmark) if benchmark else None for model in results]
    titles = {
        name: title for result in found if result for name, title in result.columns.items() if name in result.scores
    }
    return [
        Column(
            title,
            [result.headline(name) if result else None for result in found],
            [headline_cell(result, name) for result in found],
        )
        for name, title in titles.items()
    ]


def headline_cell(result: BenchmarkResult | None, name: str) -> str:
    """Print a score in percent, or a dash without it, followed by the number of items if they are too few."""
    if result is None:
        return percent(None)
    if result.covered:
        return percent(score.value if (score := result.headline(name)) else None)
    return f"- ({result.n_found:,} of {result.n_listed:,})"


def _benchmarks(results: Sequence[Results], suite: str) -> list[str]:
    """Name the benchmarks of a suite, in the order of their first occurrence."""
    return list(
        dict.fromkeys(name for model in results for name, result in model.benchmarks.items() if result.suite == suite)
    )


def check_comparable(results: Sequence[Results]) -> None:
    """Refuse results with equal names, or of different items.

    Args:
        results (sequence of `Results`): Results to show side by side.

    Raises:
        ValueError: If there is no result, two have the same name, or two scored a benchmark on different items.
    """
    names = [model.model for model in results]
    if not results or len(set(names)) < len(names):
        raise ValueError(f"results of the models {names}; needs at least one model, and different names")
    hashes: dict[str, dict[str, list[str]]] = {}
    for model in results:
        for name, result in model.benchmarks.items():
            hashes.setdefault(name, {}).setdefault(result.content_hash, []).append(model.model)
    for name, models in hashes.items():
        if len(models) > 1:
            raise ValueError(f"{name} was scored on different items (content hash: models): {models}")


def percent(share: float | None) -> str:
    """Print a share as a percentage, or a dash without it."""
    return "-" if share is None else f"{100 * share:.1f}"


def suite_notes(results: Sequence[Results], suite: str, columns: Sequence[Column]) -> list[str]:
    """Write the notes that a reader of a table needs."""
    notes = []
    if scores := [score for column in columns for score in column.scores if score is not None]:
        widest = max(max(score.value - score.interval[0], score.interval[1] - score.value) for score in scores)
        sizes = {score.n for score in scores}
        notes.append(
            f"{' to '.join(f'{n:,}' for n in sorted({min(sizes), max(sizes)}))} items or queries per score; "
            f"95 % bootstrap intervals reach at most {100 * widest:.1f} points to either side."
        )
        if ties := [score.tie_rate for score in scores if score.tie_rate is not None]:
            share = f"at most {100 * max(ties):.2f} % of items"
            notes.append(f"Ties are misses for models ({share}); blind baselines get half of each tie.")
    for model in results:
        activation, truncated = " and ".join(dict.fromkeys(model.activation.values())), model.encoded["texts_truncated"]
        notes.append(f"{model.model}: activation {activation}, {model.dtype}, {truncated} texts truncated.")
        notes += [f"{model.model}: {note}." for note in model.notes]
    for model in results:
        for name in _benchmarks([model], suite):
            notes += [f"{model.model}, {name}: {note}." for note in model.benchmarks[name].notes]
    return notes
