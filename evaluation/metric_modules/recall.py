"""Retrieval recall in both directions, as a metric of the `evaluate` library.

metric = evaluate.load("evaluation/metric_modules/recall.py")
metric.compute(similarity=[[0.9, 0.1], [0.2, 0.8]], image_of_caption=[0, 1], ks=[1])  # one row per image
"""

import datasets
import evaluate

from compalign.evaluation import metrics


class Recall(evaluate.Metric):
    """See `compalign.evaluation.recall_at_k`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=metrics.recall_at_k.__doc__,
            citation="",
            features=datasets.Features({"similarity": datasets.List(datasets.Value("float64"))}),
        )

    def _compute(
        self, similarity: list[list[float]], image_of_caption: list[int], ks: tuple[int, ...] = (1, 5, 10)
    ) -> dict[str, float]:
        recalls = metrics.recall_at_k(similarity, image_of_caption, ks)
        return {f"{direction}_recall_{k}": value for direction, at in recalls.items() for k, value in at.items()}
