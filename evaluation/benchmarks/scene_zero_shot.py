"""Zero-shot classification of single objects of the generated world: the ability that fine-tuning must keep."""

from typing import Any, ClassVar

import numpy as np

from ...data.scenes import render, zero_shot_items, zero_shot_labels
from ..metrics import bootstrap_interval, mean_per_group, zero_shot_hits
from ..results import Score
from .base import Benchmark


class SceneZeroShot(Benchmark):
    """Which of 64 pairs of colour and shape is the object in the image?

    Schema: `ZeroShotItem(scene, label)`, against the prompts of `zero_shot_labels()` ("a red circle"). Metrics: `top1`,
    `mean_per_class`, and top-1 apart for the combinations that training shows (`seen`) and those it does not
    (`held_out`), always among all classes.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        count (`int`): Images; multiples of 64 keep the classes balanced.
        image_size (`int`): Side of the drawn image, in pixels.
        seed (`int`): The items are a function of it.
    """

    name = "scenes_zero_shot"
    suite = "Generated scenes"
    columns: ClassVar[dict[str, str]] = {"top1": "zero-shot"}

    def __init__(self, count: int = 512, image_size: int = 64, seed: int = 0):
        items = zero_shot_items(count, seed=seed)
        self.classes = zero_shot_labels()
        self.chance = 1 / len(self.classes)
        self.labels = np.array([item.label for item in items])
        super().__init__(
            images=[render(item.scene, image_size) for item in items],
            texts=[label.prompt for label in self.classes],
            image_groups=np.arange(count)[None, :],
            text_groups=np.arange(len(self.classes))[None, :],
            n_found=count,
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the classification; see `Benchmark.score`."""
        similarity = scores[0].T  # (images, classes)
        hits = zero_shot_hits(similarity, self.labels)
        held_out = np.array([self.classes[label].held_out for label in self.labels])
        subsets = {"top1": np.ones_like(held_out), "seen": ~held_out, "held_out": held_out}
        metrics = {
            name: Score(float(hits[subset].mean()), int(subset.sum()), bootstrap_interval(hits[subset]), self.chance)
            for name, subset in subsets.items()
            if subset.any()
        }
        metrics["mean_per_class"] = Score(
            mean_per_group(hits, self.labels), len(hits), bootstrap_interval(hits, self.labels), self.chance
        )
        rows = [
            {"label": self.texts[label], "chosen": self.texts[chosen], "correct": bool(hit)}
            for label, chosen, hit in zip(self.labels, similarity.argmax(axis=1), hits, strict=True)
        ]
        return metrics, rows
