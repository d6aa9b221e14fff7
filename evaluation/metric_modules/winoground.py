"""Winoground's text, image and group score, as a metric of the `evaluate` library.

metric = evaluate.load("evaluation/metric_modules/winoground.py")
metric.compute(scores=[[[0.3, 0.1], [0.2, 0.4]]])  # scores[item][caption][image]
"""

import datasets
import evaluate

from compalign.evaluation import metrics


class Winoground(evaluate.Metric):
    """See `compalign.evaluation.winoground_scores`."""

    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.List(datasets.List(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description=metrics.winoground_scores.__doc__,
            citation="",
            features=datasets.Features({"scores": scores}),
        )

    def _compute(self, scores: list[list[list[float]]]) -> dict[str, float]:
        return metrics.winoground_scores(scores)
