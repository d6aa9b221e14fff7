"""compalign's evaluation, which encodes each image and caption once, against programs that take item after item."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import PreTrainedModel, ProcessorMixin

from ...data.scenes import NEGATIVE_KINDS, generate_scene, render, scene_row
from ...data.tokenization import text_length
from ...evaluation import ChoiceItem, SugarCrepe, evaluate_model
from ...evaluation.benchmarks.sugarcrepe import SIZES
from ...modeling.kinds import default_device, load_model, load_processor, name_of
from ..space import RELEASED
from . import EvaluationSpeedArguments
from .timing import report_figures

COCO_SIZE = (640, 480)
GRAIN = 14  # noise of drawn pictures, in grey levels, which brings them to about the bytes of COCO's, 150,000
SCENES, ITEMS_PER_SCENE = 250, 5  # of generated items; SugarCrepe has 4.8 items per image
BASE = str(RELEASED / "scenes_base")


@dataclass(frozen=True)
class Run:
    """A program's scores of items, and how long it took.

    Args:
        scores (`numpy.ndarray` of shape `(items, 2)`): Score of the true and of the false caption.
        wall, processor (`float`): Seconds that passed, and seconds that this process computed.
    """

    scores: np.ndarray
    wall: float
    processor: float

    @classmethod
    def of(cls, program: Callable[[], np.ndarray]) -> "Run":
        """Run and time a program, which ends when its scores are on the CPU."""
        wall, processor = time.perf_counter(), time.process_time()
        scores = program()
        return cls(scores, time.perf_counter() - wall, time.process_time() - processor)

    @property
    def speed(self) -> float:
        """Items per second."""
        return len(self.scores) / self.wall

    def gain_over(self, other: "Run") -> dict[str, float]:
        """Return how many times as fast as another run this one is, per item and by each clock."""
        items = len(self.scores) / len(other.scores)
        return {"wall": items * other.wall / self.wall, "processor": items * other.processor / self.processor}


def run(args: EvaluationSpeedArguments) -> dict[str, float]:
    """Measure, print, write."""
    path = args.model or BASE
    model, processor = load_model(path).to(default_device()), load_processor(path)
    with tempfile.TemporaryDirectory() as folder:
        annotations = write_annotations(args, Path(folder, "annotations"))
        images = args.images or draw_images(annotations, Path(folder, "images"))
        items = SugarCrepe(annotations, images).items
        ours = partial(score_ours, model, processor, annotations, images, args, Path(folder, "cache"))
        figures = measure(model, processor, items, ours, args)
    seen, read = distinct(items)
    setting = f"{name_of(path)}, {len(items):,} items of {seen:,} {'' if args.images else 'drawn '}images and "
    setting += f"{read:,} texts, {args.batch_size} per batch, {args.num_workers} workers"
    report_figures(figures, setting, args.output_dir)
    return figures


def measure(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    items: Sequence[ChoiceItem],
    ours: Callable[[], np.ndarray],
    args: EvaluationSpeedArguments,
) -> dict[str, float]:
    """Time all programs, compare their scores, and count what passes through the model.

    Args:
        model, processor: The dual encoder.
        items (sequence of `ChoiceItem`): What is scored, with paths as images.
        ours (`Callable`): Our evaluation of the items, with a cache that is empty at first.
        args (`EvaluationSpeedArguments`): How much to measure.
    """
    chosen = np.unique(np.linspace(0, len(items) - 1, args.items_of_others).round().astype(int))
    sample = [items[position] for position in chosen]
    others: dict[str, Any] = {"SugarCrepe's protocol": partial(score_one_by_one, model, processor)}
    if find_spec("sentence_transformers") is None:
        print("sentence-transformers is not installed: not measured")
    else:
        others["sentence-transformers"] = sentence_transformers_scorer(args.model or BASE, args.batch_size)
    runs = {}
    for name, score in others.items():
        score(sample[:2])  # warms up
        runs[name] = Run.of(partial(score, sample))
    with counted(model) as first:
        cold = Run.of(ours)
    with counted(model) as second:
        warm = Run.of(ours)
    seen, read = distinct(items)
    timed = runs | {"ours, empty cache": cold, "ours, filled cache": warm}
    figures = {f"{name}, items/s": run.speed for name, run in timed.items()}
    figures |= {f"{name}, wall / processor time": run.wall / run.processor for name, run in timed.items()}
    for name, run in runs.items():
        figures |= {f"ours, empty cache / {name}, {clock} time": gain for clock, gain in cold.gain_over(run).items()}
    figures |= {f"ours, filled / empty cache, {clock} time": gain for clock, gain in warm.gain_over(cold).items()}
    figures |= {
        "images through the model / distinct ones": first["images"] / seen,
        "texts through the model / distinct ones": first["texts"] / read,
        "images and texts through the model, filled cache": second.total(),
    }
    for name, run in runs.items():
        figures |= differences(name, cold.scores[chosen], run.scores)
    return figures | differences("filled cache", cold.scores, warm.scores)


def score_one_by_one(model: PreTrainedModel, processor: ProcessorMixin, items: Sequence[ChoiceItem]) -> np.ndarray:
    """Score items by SugarCrepe's protocol: three forwards per item, and captions padded to the full length.

    Reference:
        https://github.com/RAIVNLab/sugar-crepe, main_eval.py.
    """
    length = text_length(model.config, processor.tokenizer)
    scores = []
    with torch.inference_mode():
        for item in items:
            pixels = processor.image_processor(images=Image.open(item.image).convert("RGB"), return_tensors="pt")
            image = normalize(model.get_image_features(pixels["pixel_values"].to(model.device)).pooler_output)
            for caption in item.captions:
                ids = processor.tokenizer(
                    caption, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
                )["input_ids"]
                text = normalize(model.get_text_features(ids.to(model.device)).pooler_output)
                scores.append((text @ image.T).item())
    return np.array(scores).reshape(len(items), -1)


def score_ours(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    annotations: str | Path,
    images: str | Path,
    args: EvaluationSpeedArguments,
    cache: Path,
) -> np.ndarray:
    """Score items as `compalign evaluate` does, from the reading of the annotations to intervals and baselines."""
    results = evaluate_model(
        model,
        processor,
        [SugarCrepe(annotations, images)],
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        progress=False,
        cache=cache,
    )
    return np.array([row["scores"] for row in results.benchmarks["sugarcrepe"].rows])


def sentence_transformers_scorer(path: str, batch_size: int) -> Callable[[Sequence[ChoiceItem]], np.ndarray]:
    """Load a model into sentence-transformers, to encode the image and the captions of every item in batches."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(path, device=str(default_device()))
    encode = partial(encoder.encode, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)

    def score(items: Sequence[ChoiceItem]) -> np.ndarray:
        images = encode([Image.open(item.image).convert("RGB") for item in items])  # (items, dim)
        texts = encode([caption for item in items for caption in item.captions])  # (items * captions, dim)
        return np.einsum("id,icd->ic", images, texts.reshape(len(items), -1, images.shape[1]))

    return score


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[Counter]:
    """Count the images and the texts that pass through a model's towers."""
    passed = Counter()

    def count(kind: str, _module, _inputs, output) -> None:
        passed[kind] += len(output.pooler_output)

    hooks = [
        getattr(model, tower).register_forward_hook(partial(count, kind))
        for kind, tower in {"images": "vision_model", "texts": "text_model"}.items()
    ]
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()


def distinct(items: Sequence[ChoiceItem]) -> tuple[int, int]:
    """Count the different images and texts of items."""
    return len({item.image for item in items}), len({caption for item in items for caption in item.captions})


def differences(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Say how far scores are from those of another program, and how many choices differ."""
    choices = (ours[:, 0] > ours[:, 1]) != (theirs[:, 0] > theirs[:, 1])
    return {
        f"largest difference of a score, {name}": float(np.abs(ours - theirs).max()),
        f"choices that differ, {name}": int(choices.sum()),
    }


def write_annotations(args: EvaluationSpeedArguments, folder: Path) -> Path:
    """Write the seven files of annotations for the images that are used."""
    files = generated_annotations() if args.annotations is None else read_annotations(args.annotations)
    names = file_names(files)
    used = set(names[:: -(-len(names) // args.images_used)] if args.images_used else names)
    folder.mkdir()
    for kind, records in files.items():
        kept = {key: record for key, record in records.items() if record["filename"] in used}
        (folder / f"{kind}.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder


def read_annotations(folder: str | Path) -> dict[str, dict[str, dict[str, str]]]:
    """Read SugarCrepe's files: `{kind: {key: record}}`."""
    return {kind: json.loads(Path(folder, f"{kind}.json").read_text(encoding="utf-8")) for kind in SIZES}


def generated_annotations() -> dict[str, dict[str, dict[str, str]]]:
    """Make items of generated scenes, in the form of SugarCrepe's files."""
    files = {kind: {} for kind in SIZES}
    file_of = dict(zip(NEGATIVE_KINDS, files.values(), strict=True))
    for seed in range(SCENES):
        row = scene_row(seed, num_negatives=ITEMS_PER_SCENE)
        record = {"filename": f"{seed:012}.jpg", "caption": row["caption"]}
        for kind, negative in zip(row["negative_kinds"], row["negative_captions"], strict=True):
            if negative:
                file_of[kind][str(len(file_of[kind]))] = {**record, "negative_caption": negative}
    return files


def file_names(files: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    """Return the file names of the images, sorted."""
    return sorted({record["filename"] for records in files.values() for record in records.values()})


def draw_images(annotations: Path, folder: Path) -> Path:
    """Draw a scene with the grain, size and bytes of a photograph for every file name in annotations."""
    folder.mkdir()
    for seed, name in enumerate(file_names(read_annotations(annotations))):
        picture = np.asarray(render(generate_scene(seed), 128).resize(COCO_SIZE))
        grain = np.random.default_rng(seed).normal(scale=GRAIN, size=(*picture.shape[:2], 1))
        Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    return folder
