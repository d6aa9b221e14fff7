"""Benchmarks read from files: stand-ins for their images, scores without a model, and counts of what was scored."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compalign.evaluation import Score


def touch_images(folder: Path, names: Iterable[str]) -> Path:
    """Make empty files under the names of images: enough where nothing is decoded."""
    for name in set(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def write_json(path: Path, content) -> Path:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def as_groups(scores) -> np.ndarray:
    """Scores of shape (items, captions) as a benchmark receives them, with an image axis."""
    return np.asarray(scores, dtype=np.float32)[:, :, None]


def blind_counts(score: Score, baseline: str) -> tuple[int, int, int]:
    """Items, strict hits and ties of a blind baseline."""
    rates = score.baselines[baseline]
    return rates["n"], round(rates["n"] * rates["strict"]), round(rates["n"] * rates["tie_rate"])


def values(metrics: dict[str, Score]) -> dict[str, float]:
    """The value of every metric."""
    return {name: score.value for name, score in metrics.items()}
