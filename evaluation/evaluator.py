"""Evaluating a model: the references of all benchmarks are encoded together, then each benchmark scores its own."""

import hashlib
import json
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from ..data.tokenization import caption_padding
from .benchmarks import BENCHMARKS, Benchmark
from .encoding import encode_references, text_length
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


def evaluate_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    batch_size: int = 256,
    name: str | None = None,
    num_workers: int = 0,
    progress: bool = True,
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

    Returns:
        `Results`

    Raises:
        ValueError: If there is no benchmark, a name is unknown, or two benchmarks have the same name.
    """
    start = time.perf_counter()
    requested = _instances(benchmarks)
    encoded = encode_references(
        model,
        processor,
        images=[image for benchmark in requested for image in benchmark.images],
        texts=[text for benchmark in requested for text in benchmark.texts],
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )
    results = {}
    first_image = first_text = 0
    for benchmark in requested:
        image_groups, text_groups = benchmark.image_groups + first_image, benchmark.text_groups + first_text
        metrics, rows = benchmark.score(encoded.scores(image_groups, text_groups))
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
        first_image, first_text = end_image, first_text + len(benchmark.texts)
    return Results(
        model=name or model.config.name_or_path or type(model).__name__,
        benchmarks=results,
        activation={
            "text": _activation(model.config.text_config),
            "vision": _activation(model.config.vision_config),
        },
        dtype=str(model.dtype).removeprefix("torch."),
        preprocessing=_preprocessing(model, processor),
        encoded=encoded.counts,
        versions={library: version(library) for library in LIBRARIES},
        seconds=time.perf_counter() - start,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _instances(benchmarks: Sequence[str | Benchmark]) -> list[Benchmark]:
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


def _preprocessing(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """Collect the settings of the image processor and the tokenizer that change scores."""
    settings = json.loads(processor.image_processor.to_json_string())
    return {
        "image": {key: settings[key] for key in IMAGE_SETTINGS if key in settings},
        "text": {
            "padding": caption_padding(model.config),
            "max_length": text_length(model.config, processor.tokenizer),
        },
    }
