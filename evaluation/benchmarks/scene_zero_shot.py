"""Zero-shot classification of single generated objects: the ability that fine-tuning must keep."""

from typing import Any, ClassVar

import numpy as np

from ...data.scenes import render, zero_shot_items, zero_shot_labels
from ..metrics import bootstrap_interval
from ..results import Score
from .zero_shot import ZeroShotClassification


class SceneZeroShot(ZeroShotClassification):
    """Classify the object in the image among 320 pairs of colour and noun.

    Schema: `ZeroShotItem(scene, label)`, with the prompts of `zero_shot_labels()`, such as "a red cat". Metrics:
    `top1`; `mean_per_class`; and `seen` and `held_out`, top-1 over the images whose combination training shows and
    over the others, always among all classes.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count (`int`): Number of images; multiples of 320 keep the classes balanced.
        image_size (`int`): Side of the drawn image, in pixels.
        seed (`int`): Seed of the items.

    Attributes:
        scenes (`list[Scene]`): The scene of each image.
    """

    name = "scenes_zero_shot"
    suite = "Generated scenes"
    columns: ClassVar[dict[str, str]] = {"top1": "zero-shot"}

    def __init__(self, count: int = 640, image_size: int = 64, seed: int = 0):
        items = zero_shot_items(count, seed=seed)
        self.classes = zero_shot_labels()
        super().__init__(
            images=[render(item.scene, image_size) for item in items],
            labels=[item.label for item in items],
            class_names=[label.prompt for label in self.classes],
            templates=["{}"],
        )
        self.scenes = [item.scene for item in items]

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the classification; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        hits = np.array([row["correct"] for row in rows])
        held_out = np.array([self.classes[label].held_out for label in self.labels])
        for name, subset in (("seen", ~held_out), ("held_out", held_out)):
            if subset.any():
                metrics[name] = Score(
                    value=float(hits[subset].mean()),
                    n=int(subset.sum()),
                    interval=bootstrap_interval(hits[subset]),
                    chance=metrics["top1"].chance,
                )
        return metrics, rows
