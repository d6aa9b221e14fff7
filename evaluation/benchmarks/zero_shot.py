"""Zero-shot classification: the scorer that all such benchmarks share."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..metrics import bootstrap_interval, mean_per_group, zero_shot_hits
from ..results import Score
from .base import Benchmark


class ZeroShotClassification(Benchmark):
    """Which of the classes does an image show, by the score of prompts that name the class?

    A class is the normalised mean of its prompts' normalised features, one prompt a template. Metrics: `top1` over
    images and `mean_per_class`. A tie of the image's class with another is a miss, so that classes of the same name are
    never right; a note counts them.

    Args:
        images (sequence of path, bytes, `dict` or `PIL.Image.Image`): Images.
        labels (sequence of `int`): Position of each image's class.
        class_names (sequence of `str`): Names of the classes, as prompts write them.
        templates (sequence of `str`): Prompts, with `{}` where the name goes.
        notes (sequence of `str`): What a reader of the scores must know.

    Raises:
        ValueError: If there is no image, labels are not one an image and positions of classes, a template has no `{}`,
            or there is none.

    Reference:
        CLIP, https://huggingface.co/papers/2103.00020, section 3.1.4.
    """

    name = "zero_shot"
    suite = "Zero-shot classification"
    columns: ClassVar[dict[str, str]] = {"top1": "top-1", "mean_per_class": "mean per class"}

    def __init__(
        self,
        images: Sequence[Any],
        labels: Sequence[int],
        class_names: Sequence[str],
        templates: Sequence[str] = ("a photo of a {}.",),
        notes: Sequence[str] = (),
    ):
        self.labels, self.class_names = np.asarray(labels), list(class_names)
        if not len(images) or self.labels.shape != (len(images),):
            raise ValueError(f"{len(images)} images with labels of shape {self.labels.shape}; one label an image")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise ValueError(
                f"labels span {self.labels.min()}..{self.labels.max()}; must be in 0..{len(self.class_names) - 1}"
            )
        without = [template for template in templates if "{}" not in template]
        if without or not templates:
            raise ValueError(f"templates {without or list(templates)}; needs templates with {{}} for the name")
        prompts = [tuple(template.replace("{}", name) for template in templates) for name in self.class_names]
        super().__init__(
            images=images,
            texts=[prompt[0] if len(prompt) == 1 else prompt for prompt in prompts],
            image_groups=np.arange(len(images))[None, :],
            text_groups=np.arange(len(prompts))[None, :],
            n_found=len(images),
            notes=[*notes, *_shared_names(self.class_names)],
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the classification; see `Benchmark.score`."""
        similarity = scores[0].T  # (images, classes)
        hits, chance = zero_shot_hits(similarity, self.labels), 1 / len(self.class_names)
        metrics = {
            "top1": Score(float(hits.mean()), len(hits), bootstrap_interval(hits), chance),
            "mean_per_class": Score(
                mean_per_group(hits, self.labels), len(hits), bootstrap_interval(hits, self.labels), chance
            ),
        }
        rows = [
            {"label": self.class_names[label], "chosen": self.class_names[chosen], "correct": bool(hit)}
            for label, chosen, hit in zip(self.labels, similarity.argmax(axis=1), hits, strict=True)
        ]
        return metrics, rows


def _shared_names(class_names: Sequence[str]) -> list[str]:
    """Note the classes that no prompt can tell apart."""
    shared = sorted(name for name, count in Counter(class_names).items() if count > 1)
    if not shared:
        return []
    return [f"{len(shared)} names stand for several classes each, whose images are misses, such as {shared[0]}"]
