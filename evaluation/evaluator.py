"""Evaluating a model: the references of all benchmarks are encoded together, then each benchmark scores its own."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from ..data.components import CaptionComponents, Entity, Relation, extract
from ..data.encoding import feature_stores
from ..data.tokenization import caption_padding, text_length
from ..modeling import ComAlignModel
from .benchmarks import BENCHMARKS, Benchmark
from .components import encode_components
from .encoding import encode_references
from .provenance import activation_warning, git_commit, hardware
from .results import BenchmarkResult, Results

LIBRARIES = ("compalign", "torch", "transformers", "tokenizers", "numpy", "pillow")
IMAGE_SETTINGS = (
    "image_processor_type",
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


class Encoded(Protocol):
    """Images and texts of benchmarks as a model sees them, with its scores of pairs."""

    image_keys: list[str]
    counts: dict[str, int]

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Score every text with every image of the same group: `(groups, C, I)`."""

    def text_scores(self, text_groups: np.ndarray) -> np.ndarray:
        """Score every text with every text of the same group: `(groups, C, C)`; for benchmarks that compare texts."""


def evaluate_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    batch_size: int = 256,
    name: str | None = None,
    num_workers: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
) -> Results:
    """Evaluate a dual encoder on benchmarks; an image or text that several of them share is encoded once.

    Example:

    ```python
    results = evaluate_model(model, processor, ["scenes_composition", SugarCrepe("sugar-crepe/data", "coco/val2017")])
    print(results.metrics["sugarcrepe/swap_att"])
    results.to_json("results.json")
    ```

    Args:
        model (`PreTrainedModel`): Any CLIP-like model; evaluated where it is and in the data type it has.
        processor (`ProcessorMixin`): Its processor.
        benchmarks (sequence of `str` or `Benchmark`): Names of `BENCHMARKS` that need no arguments, or benchmarks.
        batch_size (`int`): Images, and texts, a forward pass.
        name (`str`, optional): Name of the model in results; by default the one it was loaded under, or its class.
        num_workers (`int`): Processes that decode images; 0 decodes in this one.
        progress (`bool`): Whether to show progress bars.
        cache (`str` or `Path`, optional): Folder in which features are remembered for later evaluations.

    Returns:
        `Results`

    Raises:
        ValueError: If there is no benchmark, a name is unknown, or two benchmarks have the same name.
    """
    start = time.perf_counter()
    requested = benchmark_instances(benchmarks)
    encoded = encode_references(model, processor, *all_references(requested), batch_size, num_workers, progress, cache)
    name = name or model.config.name_or_path or type(model).__name__
    return scored_results(name, model, processor, requested, encoded, _text_settings(model, processor), start)


def evaluate_comalign(
    model: ComAlignModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    regions: Callable[[Any], tuple[Sequence[Entity], Sequence[Relation]]],
    phrases: Callable[[Sequence[str]], list[CaptionComponents]] = extract,
    batch_size: int = 256,
    name: str | None = None,
    progress: bool = True,
    cache: str | Path | None = None,
) -> Results:
    """Evaluate ComAlign's heads on benchmarks, with the scorers of all models.

    A pair's score is the mean of the model's scores in both directions.

    Args:
        model (`ComAlignModel`): Its backbone embeds what is not cached.
        processor (`ProcessorMixin`): The backbone's, or the `ComAlignProcessor` made of it.
        benchmarks, batch_size, name, progress, cache: As in `evaluate_model`.
        regions (`Callable`): Finds the entities and relations of an image, such as a detector.
        phrases (`Callable`): Takes captions apart.

    Returns:
        `Results`: activation and preprocessing are the backbone's.

    Raises:
        ValueError: As `evaluate_model`; if the model's score of a pair depends on other candidates, or a benchmark
            averages prompts.
    """
    start = time.perf_counter()
    requested = benchmark_instances(benchmarks)
    stores = None if cache is None else feature_stores(cache, model.backbone, processor)
    encoded = encode_components(
        model, processor, *all_references(requested), regions, phrases, stores, batch_size, progress
    )
    name = name or model.config.name_or_path or type(model).__name__
    text = _text_settings(model.backbone, processor)
    return scored_results(name, model.backbone, processor, requested, encoded, text, start)


def all_references(benchmarks: Sequence[Benchmark]) -> tuple[list[Any], list[Any]]:
    """The images and the texts of all benchmarks, one after the other."""
    images = [image for benchmark in benchmarks for image in benchmark.images]
    return images, [text for benchmark in benchmarks for text in benchmark.texts]


def joint_groups(benchmarks: Sequence[Benchmark]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the image groups and the text groups of each benchmark, as positions in `all_references`."""
    first_image = first_text = 0
    for benchmark in benchmarks:
        yield benchmark.image_groups + first_image, benchmark.text_groups + first_text
        first_image, first_text = first_image + len(benchmark.images), first_text + len(benchmark.texts)


def scored_results(
    name: str,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    requested: Sequence[Benchmark],
    encoded: Encoded,
    text: dict[str, Any],
    start: float,
) -> Results:
    """Score all benchmarks, and note the settings of the encoder.

    Args:
        name (`str`): Name of the model.
        model, processor: What encoded; its activation, data type and preprocessing of images are noted.
        requested (sequence of `Benchmark`): In the order of what was encoded.
        encoded (`Encoded`): All their references.
        text (`dict`): How texts were prepared.
        start (`float`): When the evaluation began, by `time.perf_counter`.
    """
    encoded_at = time.perf_counter()
    results = {}
    first_image = 0
    for benchmark, (image_groups, text_groups) in zip(requested, joint_groups(requested), strict=True):
        scores = [encoded.scores(image_groups, text_groups)]
        if benchmark.compares_texts:
            scores.append(encoded.text_scores(text_groups))
        metrics, rows = benchmark.score(*scores)
        end_image = first_image + len(benchmark.images)
        results[benchmark.name] = BenchmarkResult(
            suite=benchmark.suite,
            columns=benchmark.columns,
            scores=metrics,
            n_listed=benchmark.n_listed,
            n_found=benchmark.n_found,
            content_hash=_content_hash(benchmark, encoded.image_keys[first_image:end_image]),
            notes=benchmark.notes,
            rows=rows,
        )
        first_image = end_image
    warning = activation_warning(model.config, name)
    end = time.perf_counter()
    return Results(
        model=name,
        benchmarks=results,
        activation={
            "text": _activation(model.config.text_config),
            "vision": _activation(model.config.vision_config),
        },
        dtype=str(model.dtype).removeprefix("torch."),
        preprocessing={"image": _image_settings(processor), "text": text},
        encoded=encoded.counts,
        versions={library: version(library) for library in LIBRARIES},
        seconds=end - start,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        stage_seconds={"encoding": encoded_at - start, "scoring": end - encoded_at},
        model_revision=getattr(model.config, "_commit_hash", None),  # only what came from the Hub has one
        commit=git_commit(),
        hardware=hardware(model.device),
        notes=[] if warning is None else [warning],
    )


def benchmark_instances(benchmarks: Sequence[str | Benchmark]) -> list[Benchmark]:
    """Build the benchmarks given by name, and refuse what would be ambiguous."""
    unknown = [benchmark for benchmark in benchmarks if isinstance(benchmark, str) and benchmark not in BENCHMARKS]
    if unknown or not benchmarks:
        raise ValueError(f"benchmarks {unknown or list(benchmarks)}; must be some of {', '.join(BENCHMARKS)}")
    built = [BENCHMARKS[benchmark]() if isinstance(benchmark, str) else benchmark for benchmark in benchmarks]
    names = [benchmark.name for benchmark in built]
    if len(set(names)) < len(names):
        raise ValueError(f"benchmarks {names}; each name may be there once")
    return built


def _content_hash(benchmark: Benchmark, image_keys: Sequence[str]) -> str:
    """Hash what was compared: images, texts and groups."""
    content = hashlib.sha256(json.dumps([list(image_keys), benchmark.texts]).encode())
    for groups in (benchmark.image_groups, benchmark.text_groups):
        content.update(np.ascontiguousarray(groups, dtype=np.int64).tobytes())
    return content.hexdigest()[:16]


def _activation(config: Any) -> str:
    """Name a tower's activation function; some towers from other libraries do not say."""
    return config.to_dict().get("hidden_act", "unknown")


def _image_settings(processor: ProcessorMixin) -> dict[str, Any]:
    """Collect the settings of the image processor that change scores."""
    settings = json.loads(processor.image_processor.to_json_string())
    return {key: settings[key] for key in IMAGE_SETTINGS if key in settings}


def _text_settings(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """Collect the settings of a dual encoder's tokenizer that change scores."""
    return {"padding": caption_padding(model.config), "max_length": text_length(model.config, processor.tokenizer)}
