"""Benchmarks: one small file each."""

from .base import Benchmark
from .choice import CaptionChoice, ChoiceItem
from .retrieval import Retrieval
from .scene_composition import SceneComposition
from .scene_retrieval import SceneRetrieval
from .scene_zero_shot import SceneZeroShot
from .sugarcrepe import SugarCrepe

BENCHMARKS: dict[str, type[Benchmark]] = {
    benchmark.name: benchmark for benchmark in (SceneComposition, SceneZeroShot, SceneRetrieval, SugarCrepe)
}

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "CaptionChoice",
    "ChoiceItem",
    "Retrieval",
    "SceneComposition",
    "SceneRetrieval",
    "SceneZeroShot",
    "SugarCrepe",
]
