"""Sources of an image's entities: a detector, or COCO's annotations."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

from PIL import Image

from ..readers.bad_rows import RowProblem
from .boxes import non_maximum_suppression
from .rows import Entity


# Finds the entities of an image from its name, its pixels and the entity phrases of its captions.
class Finder(Protocol):
    """Finds the entities of an image."""

    settings: dict[str, Any]  # all that decides about them, for the record

    def __call__(self, name: str, image: Image.Image, phrases: Sequence[str], /) -> list[Entity]:
        """Find entities.

        Args:
            name (`str`): Name of the image.
            image (`PIL.Image.Image`): The image.
            phrases (sequence of `str`): Phrases that a zero-shot finder looks for.
        """


class Detector:
    """Finds entities with any object detection checkpoint of transformers.

    A zero-shot detector looks for the phrases of the captions. Images are processed one at a time, because detectors
    resize them to different shapes, which a pipeline cannot batch.

    Args:
        model (`str`): Hub id or folder.
        threshold (`float`, *optional*): Lowest score, in [0, 1]. Default: 0.5, or 0.1 for a zero-shot detector, as in
            transformers.
        most_overlap (`float`): Largest intersection over union, in [0, 1], of two boxes of a zero-shot detector. Of two
            boxes that overlap more, only the more confident one is kept, whatever their labels. 1 keeps all.
        device (`str`, *optional*): Default: a GPU if there is one.

    Raises:
        ValueError: If the model is not a detector, or a number is outside its range.
    """

    def __init__(
        self, model: str, threshold: float | None = None, most_overlap: float = 0.7, device: str | None = None
    ):
        import torch
        from transformers import AutoConfig, pipeline

        task = _task(model, AutoConfig.from_pretrained(model).model_type)
        self.zero_shot = task == "zero-shot-object-detection"
        default = 0.1 if self.zero_shot else 0.5
        self.threshold = default if threshold is None else threshold
        self.most_overlap = most_overlap
        for name in ("threshold", "most_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: 0 to 1")
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = pipeline(task, model, device=device)
        self.settings = {
            "kind": "detector",
            "model": Path(model).name if Path(model).is_dir() else model,
            "revision": _revision(model),
            "threshold": self.threshold,
        }
        if self.zero_shot:
            self.settings["most_overlap"] = most_overlap

    def __call__(self, name: str, image: Image.Image, phrases: Sequence[str]) -> list[Entity]:
        """Find the entities of one image. Without phrases, a zero-shot detector finds nothing."""
        if self.zero_shot and not phrases:
            return []
        labels = {"candidate_labels": list(phrases)} if self.zero_shot else {}
        found = [
            Entity(
                tuple(part["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")),
                round(part["score"], 6),
                part["label"],
            )
            for part in self.pipeline(image, threshold=self.threshold, **labels)
        ]
        return non_maximum_suppression(found, self.most_overlap) if self.zero_shot else found


def _task(model: str, model_type: str) -> str:
    """Return the pipeline task of a model type."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
    )

    if model_type in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES:
        return "zero-shot-object-detection"
    if model_type in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES:
        return "object-detection"
    accepted = {*MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES, *MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES}
    raise ValueError(
        f"{model} is of type {model_type!r}, which is not a detector; accepted: {', '.join(sorted(accepted))}"
    )


def _revision(model: str) -> str | None:
    """Return the commit on the Hub, or a hash of the configuration and the weights in a folder."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    if not Path(model).is_dir():
        return extract_commit_hash(cached_file(model, "config.json"), None)
    digest = hashlib.sha256()
    for path in sorted([*Path(model).glob("*.json"), *Path(model).glob("*.safetensors")]):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


class CocoInstances:
    """Takes entities from COCO's instance annotations, with score 1 and the category as label, the largest first.

    Crowds are left out. If an image was resized, its boxes are resized too.

    Args:
        path (`str` or `Path`): A JSON file of `images`, `annotations` and `categories`.

    Raises:
        ValueError: If the file has another form.
    """

    def __init__(self, path: str | Path):
        content = Path(path).read_bytes()
        try:
            document = json.loads(content)
            categories = {part["id"]: part["name"] for part in document["categories"]}
            self.sizes = {part["file_name"]: (part["width"], part["height"]) for part in document["images"]}
            names = {part["id"]: part["file_name"] for part in document["images"]}
            self.found: dict[str, list[tuple[list[float], str]]] = defaultdict(list)
            for part in document["annotations"]:
                if not part.get("iscrowd"):
                    self.found[names[part["image_id"]]].append((part["bbox"], categories[part["category_id"]]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a file of COCO instances: {type(error).__name__} {error}") from error
        self.settings = {"kind": "COCO instances", "sha256": hashlib.sha256(content).hexdigest()}

    def __call__(self, name: str, image: Image.Image, phrases: Sequence[str]) -> list[Entity]:
        """Return the annotated entities of one image, in its own pixels. The phrases are not used."""
        name = name if name in self.sizes else PurePath(name).name
        if name not in self.sizes:
            raise RowProblem("image not among the instances", name)
        width, height = self.sizes[name]
        scales = image.width / width, image.height / height
        # A resized side is rounded to whole pixels, so the two scales differ by at most a pixel of the smaller side.
        if abs(scales[0] - scales[1]) * min(width, height) > 1:
            raise RowProblem("image of another shape than annotated", f"{name}: {image.size} for {width} x {height}")
        boxes = [(_scaled(box, *scales), label) for box, label in self.found[name]]
        entities = [Entity(box, 1.0, label) for box, label in boxes]
        return sorted(entities, key=lambda entity: -(entity.box[2] - entity.box[0]) * (entity.box[3] - entity.box[1]))


def _scaled(box: Sequence[float], along_x: float, along_y: float) -> tuple[float, float, float, float]:
    """Convert COCO's (left, top, width, height) to edges at another scale, rounded to hundredths of a pixel."""
    left, top, width, height = box
    edges = left * along_x, top * along_y, (left + width) * along_x, (top + height) * along_y
    left, top, right, bottom = (round(edge, 2) for edge in edges)
    return left, top, right, bottom
