"""What the page says in words and numbers: what was run, the scores, and how many items changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..columns import Column, baseline_names, percent, suite_columns, suite_notes
from ..results import Results, Score
from . import arrows
from .galleries import Gallery
from .titles import short_names, title_of


def described(results: Sequence[Results]) -> dict[str, Any]:
    """Say what was run, in words."""
    names = [model.model for model in results]
    facts = {
        "Data type": _shared(results, [model.dtype for model in results]),
        "Activation": _shared(results, [" and ".join(dict.fromkeys(model.activation.values())) for model in results]),
        "Model revision": _shared(results, [model.model_revision or "" for model in results]),
        "Hardware": _shared(results, [str(model.hardware.get("device", "")) for model in results]),
        "Software": _shared(results, [_software(model.versions) for model in results]),
        "Commit": _shared(results, [(model.commit or "")[:12] for model in results]),
        "Evaluated": _shared(results, [_date(model.created) for model in results]),
    }
    return {
        "title": f"{_listed(names)}: evaluation",
        "names": names,
        "others": _listed(names[1:]),
        "facts": {term: fact for term, fact in facts.items() if fact},
        "benchmarks": [_benchmark_facts(results, name) for name in _benchmark_names(results)],
    }


def _benchmark_names(results: Sequence[Results]) -> list[str]:
    """Name the benchmarks of all models, in the order of their first occurrence."""
    return list(dict.fromkeys(name for model in results for name in model.benchmarks))


def _benchmark_facts(results: Sequence[Results], name: str) -> dict[str, Any]:
    """Describe a benchmark in a line."""
    found = next(model.benchmarks[name] for model in results if name in model.benchmarks)
    return {
        "title": title_of(results, name),
        "ability": found.ability,
        "size": f"{found.n_found:,}" if found.n_found == found.n_listed else f"{found.n_found:,} of {found.n_listed:,}",
    }


def _listed(names: Sequence[str]) -> str:
    """List names in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _shared(results: Sequence[Results], facts: Sequence[str]) -> str:
    """Say a fact once if it is the same for all models, or else for each; empty if no model has it."""
    if len(set(facts)) == 1:
        return facts[0]
    return "; ".join(f"{model.model}: {fact or 'not known'}" for model, fact in zip(results, facts, strict=True))


def _software(versions: Mapping[str, str]) -> str:
    """Name the versions of the libraries that matter most."""
    return ", ".join(f"{name} {versions[name]}" for name in ("compalign", "torch", "transformers") if name in versions)


def _date(created: str) -> str:
    """Shorten a time to minutes."""
    return created[:16].replace("T", " ") + " UTC"


def score_table(results: Sequence[Results], suite: str) -> dict[str, Any]:
    """Lay out the scores of a suite: the numbers of the Markdown table, with their intervals."""
    columns = suite_columns(results, suite)
    rows = [
        {"name": model.model, "model": k, "cells": [_cell(column, k) for column in columns]}
        for k, model in enumerate(results)
    ]
    references = [
        {"name": f"blind: {name}", "cells": [_blind(column.reference, name) for column in columns]}
        for name in baseline_names(columns)
    ]
    chance = [percent(column.reference.chance if column.reference else None) for column in columns]
    return {
        "title": suite,
        "columns": [column.title for column in columns],
        "rows": rows,
        "references": [*references, {"name": "chance", "cells": chance}],
        "notes": suite_notes(results, suite, columns),
    }


def _cell(column: Column, model: int) -> tuple[str, str]:
    """Print a score and its interval; without a headline score the interval is empty."""
    score = column.scores[model]
    ends = "" if score is None else f"{percent(score.interval[0])}\u2013{percent(score.interval[1])}"
    return column.cells[model], ends


def _blind(reference: Score | None, name: str) -> str:
    """Print the score of a blind baseline."""
    return percent(reference.baselines.get(name, {}).get("half_credit") if reference else None)


def pictured(results: Sequence[Results]) -> dict[str, Any]:
    """Lay out composition against recognition, or say why it is left out."""
    found = arrows.picture(results)
    if isinstance(found, str):
        return {"picture": None, "no_picture": found, "size": None}
    size = {name: getattr(arrows, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM", "RADIUS")}
    return {"picture": found, "no_picture": "", "size": size}


def changes(results: Sequence[Results], galleries: Sequence[Gallery]) -> list[dict[str, Any]]:
    """Count the outcomes of all items, by benchmark and model."""
    names = short_names(results)
    return [
        {
            "title": title_of(results, gallery.name),
            "outcomes": gallery.outcomes,
            "total": gallery.total,
            "shown": len(gallery.items),
            "rows": [
                {
                    "name": names[k],
                    "model": k,
                    "counts": [
                        sum(count for (_, outcome), count in counts.items() if outcome == wanted)
                        for wanted in gallery.outcomes
                    ],
                }
                for k, counts in zip(gallery.compared, gallery.counts, strict=True)
            ],
        }
        for gallery in galleries
    ]
