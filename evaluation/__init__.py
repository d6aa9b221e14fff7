"""Evaluation: benchmarks, metrics and blind baselines, and reports that print them side by side."""

from .baselines import NgramLanguageModel, blind_baselines, chance_recall, shorter_text
from .benchmarks import (
    BENCHMARKS,
    Benchmark,
    CaptionChoice,
    ChoiceItem,
    Retrieval,
    SceneComposition,
    SceneRetrieval,
    SceneZeroShot,
    SugarCrepe,
)
from .encoding import EncodedReferences, encode_references
from .evaluator import evaluate_model
from .metrics import (
    bootstrap_interval,
    caption_choice,
    mean_per_group,
    recall_at_k,
    retrieval_ranks,
    winoground_scores,
    zero_shot_accuracy,
    zero_shot_hits,
)
from .report import plot_results, table
from .results import BenchmarkResult, Results, Score

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkResult",
    "CaptionChoice",
    "ChoiceItem",
    "EncodedReferences",
    "NgramLanguageModel",
    "Results",
    "Retrieval",
    "SceneComposition",
    "SceneRetrieval",
    "SceneZeroShot",
    "Score",
    "SugarCrepe",
    "blind_baselines",
    "bootstrap_interval",
    "caption_choice",
    "chance_recall",
    "encode_references",
    "evaluate_model",
    "mean_per_group",
    "plot_results",
    "recall_at_k",
    "retrieval_ranks",
    "shorter_text",
    "table",
    "winoground_scores",
    "zero_shot_accuracy",
    "zero_shot_hits",
]
