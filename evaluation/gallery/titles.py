"""Names of models and benchmarks, as short as a reader can tell them apart."""

from collections.abc import Sequence

from ..results import Results


def title_of(results: Sequence[Results], name: str) -> str:
    """Title a benchmark: by its suite if that has no other benchmark, or else by its name."""
    suites = {name: found.suite for model in results for name, found in model.benchmarks.items()}
    return suites[name] if list(suites.values()).count(suites[name]) == 1 else name.replace("_", " ")


def short_names(results: Sequence[Results]) -> list[str]:
    """Name the models without the owner of a Hub id, or in full if two would have the same name."""
    names = [model.model for model in results]
    short = [name.rstrip("/").rpartition("/")[2] for name in names]
    return short if len(set(short)) == len(names) else names
