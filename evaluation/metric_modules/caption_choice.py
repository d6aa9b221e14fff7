"""Choice between a true and a false caption, as a metric of the `evaluate` library.

metric = evaluate.load("evaluation/metric_modules/caption_choice.py")
metric.compute(scores_true=[0.3, 0.2], scores_false=[0.1, 0.2])
"""

import datasets
import evaluate

from compalign.evaluation import metrics


class CaptionChoice(evaluate.Metric):
    """See `compalign.evaluation.caption_choice`."""

    def _info(self) -> evaluate.MetricInfo:
        score = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=metrics.caption_choice.__doc__,
            citation="",
            features=datasets.Features({"scores_true": score, "scores_false": score}),
        )

    def _compute(self, scores_true: list[float], scores_false: list[float]) -> dict[str, float | int]:
        return metrics.caption_choice(scores_true, scores_false)
