"""Zero-shot classification, as several benchmarks ask for it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...data.images import file_name
from ..metrics import bootstrap_interval, mean_per_group, zero_shot_hits
from ..results import Score
from .base import Benchmark


class ZeroShotClassification(Benchmark):
    """Classify images by the scores of prompts that name the classes.

    The features of a class are the normalised mean of the normalised features of its prompts, one prompt per template.
    Metrics: `top1`, over images, and `mean_per_class`. A tie of the image's class with another is a miss, so that
    images of two classes with the same name are always misses; a note counts such names.

    Args:
        images (sequence of path, bytes, `dict` or `PIL.Image.Image`): Images.
        labels (sequence of `int`): Position of each image's class.
        class_names (sequence of `str`): Names of the classes, as they appear in prompts.
        templates (sequence of `str`): Prompts, with `{}` in the place of the name.
        notes (sequence of `str`): Notes for readers of the scores.

    Raises:
        ValueError: If there is no image or no template, a template has no `{}`, there is not one label per image, or a
            label is not the position of a class.

    Reference:
        CLIP, https://huggingface.co/papers/2103.00020, section 3.1.4.
    """

    name = "zero_shot"
    suite = "Zero-shot classification"
    ability = "recognition"
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
            raise ValueError(
                f"{len(images)} images with labels of shape {self.labels.shape}; must be one label per image, for at "
                "least one image"
            )
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise ValueError(
                f"labels span {self.labels.min()}..{self.labels.max()}; must be in 0..{len(self.class_names) - 1}"
            )
        without = [template for template in templates if "{}" not in template]
        if without or not templates:
            raise ValueError(f"templates {without or list(templates)}; each needs {{}} in the place of the name")
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
            {
                "image": file_name(image),
                "label": self.class_names[label],
                "chosen": self.class_names[chosen],
                "scores": [float(own[label]), float(own[chosen])],
                "correct": bool(hit),
            }
            for image, label, chosen, own, hit in zip(
                self.images, self.labels, similarity.argmax(axis=1), similarity, hits, strict=True
            )
        ]
        return metrics, rows


def _shared_names(class_names: Sequence[str]) -> list[str]:
    """Note names that several classes share: no prompt can tell such classes apart."""
    shared = sorted(name for name, count in Counter(class_names).items() if count > 1)
    if not shared:
        return []
    return [f"class names that are not unique: {len(shared)}, such as {shared[0]}; images of these classes are misses"]
