"""Results of models that gave the scores they are told, without any model."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from compalign.evaluation import (
    Benchmark,
    BenchmarkResult,
    CaptionChoice,
    ChoiceItem,
    Results,
    ZeroShotClassification,
)


class Captions(CaptionChoice):
    """Two kinds in one family."""

    name, suite, columns = "captions", "Captions", {"swap": "swap", "add": "add", "all_macro": "mean"}
    families = {"all": ["swap", "add"]}  # noqa: RUF012


def captions(count: int, image=None, texts=("a red cup on a table", "a blue cup on a table")) -> Captions:
    """A choice with every third item of another kind; each item is of its own image unless one is given."""
    images = [Image.new("RGB", (64, 64), (k % 256, 0, 0)) if image is None else image for k in range(count)]
    return Captions([ChoiceItem(f"n{k}", "swap" if k % 3 else "add", images[k], texts, f"n{k}") for k in range(count)])


def labels(count: int) -> ZeroShotClassification:
    """Images of two classes."""
    images = [Image.new("RGB", (64, 64), (0, k % 256, 0)) for k in range(count)]
    return ZeroShotClassification(images, [k % 2 for k in range(count)], ["cat", "dog"])


def evaluated(name: str, scores: Sequence[tuple[Benchmark, Sequence]]) -> Results:
    """Results with rows.

    Args:
        name (`str`): Name of the model.
        scores: Per benchmark the scores of its groups, of shape `(groups, C, I)`, or `(items, captions)`.
    """
    benchmarks = {}
    for benchmark, given in scores:
        array = np.asarray(given, dtype=np.float64)
        metrics, rows = benchmark.score(array if array.ndim == 3 else array[:, :, None])
        benchmarks[benchmark.name] = BenchmarkResult(
            suite=benchmark.suite,
            ability=benchmark.ability,
            columns={key: title for key, title in benchmark.columns.items() if key in metrics},
            scores=metrics,
            n_listed=benchmark.n_listed,
            n_found=benchmark.n_found,
            content_hash=benchmark.name,
            notes=benchmark.notes,
            rows=rows,
        )
    return Results(
        model=name,
        benchmarks=benchmarks,
        activation={"text": "gelu", "vision": "gelu"},
        dtype="float32",
        preprocessing={},
        encoded={"texts_truncated": 0},
        versions={"compalign": "9.8.7"},
        seconds=1.0,
        created="2026-01-02T03:04:05+00:00",
        commit="0123456789abcdef",
        hardware={"device": "abacus", "threads": 1},
    )
