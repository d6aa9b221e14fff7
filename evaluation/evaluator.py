"""One evaluation for every kind of model: images and texts of all benchmarks are encoded together, then scored."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from transformers import PaliGemmaProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

from ..data.components import Entity, Relation, extract
from ..data.features.encode import feature_stores
from ..data.provenance import git_commit, versions
from ..data.tokenization import caption_padding, text_length
from ..modeling import ComAlignModel
from ..modeling.kinds import Kind, kind_of_config
from .benchmarks import Benchmark, CaptionChoice, SceneQuestions
from .provenance import activation_warning, hardware
from .requests import build_benchmarks
from .results import BenchmarkResult, Results
from .scorers.base import Scorer
from .scorers.captions import LETTERS, CaptionLikelihood, LetteredChoice, encode_conversations
from .scorers.comalign import Phrases, Regions, encode_components, why_not_single_items
from .scorers.dual_encoder import encode_references
from .scorers.questions import answer_questions

LIBRARIES = ("compalign", "torch", "transformers", "tokenizers", "numpy", "pillow")
ENCODER_BATCH, CONVERSATION_BATCH = 256, 32
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


class _Part(NamedTuple):
    """Benchmarks whose images and texts were encoded together, and the scorer that holds them."""

    benchmarks: Sequence[Benchmark]
    scorer: Scorer


class _Encoded(NamedTuple):
    """All benchmarks, encoded in parts, with the settings of texts and notes for the results."""

    parts: Sequence[_Part]
    text_settings: dict[str, Any]
    notes: list[str]


def evaluate_model(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    *,
    batch_size: int | None = None,
    name: str | None = None,
    num_workers: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
    regions: Regions | None = None,
    phrases: Phrases = extract,
    method: CaptionLikelihood | LetteredChoice = CaptionLikelihood(),  # noqa: B008  (frozen)
    blind: bool = True,
) -> Results:
    """Evaluate a model of any kind on benchmarks.

    A dual encoder scores a caption by its cosine with the image; ComAlign by the mean of its scores in both directions;
    an image-text-to-text model by the likelihood of the caption as an answer, and it answers questions in words. An
    image or text that several benchmarks share is encoded once. A benchmark that the model cannot be evaluated on is
    refused before anything is encoded.

    Example:

    ```python
    results = evaluate_model(model, processor, ["scenes_composition", SugarCrepe("sugar-crepe/data", "coco/val2017")])
    print(results.metrics["sugarcrepe/swap_att"])
    results.to_json("results.json")
    ```

    Args:
        model (`PreTrainedModel` or `PeftModel`): A dual encoder, a `ComAlignModel`, an image-text-to-text model, or an
            adapter over one of them. Its device, data type and training mode stay as they are.
        processor (`ProcessorMixin`): Its processor.
        benchmarks (sequence of `str` or `Benchmark`): Benchmarks, or their names and arguments as on the command line:
            `"scenes_composition"`, `"sugarcrepe:annotations=FOLDER,images=FOLDER"`.
        batch_size (`int`, *optional*): Images, and texts, per forward pass. Default: 256, or 32 for an
            image-text-to-text model.
        name (`str`, *optional*): Name of the model in the results. Default: the name under which it, or the base of an
            adapter, was loaded; otherwise its class.
        num_workers (`int`): For encoders: processes that decode images; 0 decodes in this process.
        progress (`bool`): Whether to show progress bars.
        cache (`str` or `Path`, *optional*): For encoders: folder that keeps features for later evaluations.
        regions (`Callable`, *optional*): For ComAlign: finds the entities and relations of an image, as a detector
            does. Without it, captions are compared with whole images, and a note says so.
        phrases (`Callable`): For ComAlign: extracts the components of captions.
        method (`CaptionLikelihood` or `LetteredChoice`): For image-text-to-text models: how captions are scored.
        blind (`bool`): For image-text-to-text models: whether the model without the image is one more blind baseline of
            caption choices and questions. PaliGemma has no such baseline, since it reads no text without an image.

    Returns:
        `Results`: Activation, data type and preprocessing of ComAlign are its backbone's.

    Raises:
        ValueError: If there is no benchmark, a name or an argument is unknown, two benchmarks have the same name, the
            model is of no kind that can be evaluated, or it cannot be evaluated on one of the benchmarks.
    """
    start = time.perf_counter()
    requested = build_benchmarks(benchmarks)
    name = name or model.config.name_or_path or type(model).__name__
    kind = kind_of_config(model.config, name)
    _refuse(name, kind, model.config, requested, regions, method)
    encoder = cast(ComAlignModel, model).backbone if kind is Kind.COMALIGN else model
    settings = _encoder_settings(encoder, processor)
    warning = activation_warning(encoder.config, name)
    if batch_size is None:
        batch_size = CONVERSATION_BATCH if kind is Kind.IMAGE_TEXT_TO_TEXT else ENCODER_BATCH
    options: dict[str, Any] = {"batch_size": batch_size, "progress": progress}
    if kind is Kind.IMAGE_TEXT_TO_TEXT:
        encoded = _ask(model, processor, requested, name, method, blind, options)
    elif kind is Kind.COMALIGN:
        options |= {"num_workers": num_workers, "phrases": phrases}
        encoded = _encode_components(cast(ComAlignModel, model), processor, requested, regions, cache, options)
    else:
        options |= {"num_workers": num_workers, "cache": cache}
        scorer = encode_references(model, processor, *_all_references(requested), **options)
        encoded = _Encoded([_Part(requested, scorer)], _text_settings(model, processor), [])
    settings["preprocessing"]["text"] = encoded.text_settings
    encoded_at = time.perf_counter()
    found: dict[str, BenchmarkResult] = {}
    counts: Counter[str] = Counter()
    for part in encoded.parts:
        found.update(_scored(part))
        counts.update(part.scorer.counts)
    end = time.perf_counter()
    return Results(
        model=name,
        benchmarks={benchmark.name: found[benchmark.name] for benchmark in requested},
        **settings,
        encoded=dict(counts),
        versions=versions(*LIBRARIES),
        seconds=end - start,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        stage_seconds={"encoding": encoded_at - start, "scoring": end - encoded_at},
        model_revision=getattr(model.config, "_commit_hash", None),  # only a model from the Hub has one
        commit=git_commit(),
        hardware=hardware(model.device),
        notes=encoded.notes if warning is None else [*encoded.notes, warning],
    )


def _refuse(
    name: str,
    kind: Kind,
    config: PreTrainedConfig,
    benchmarks: Sequence[Benchmark],
    regions: Regions | None,
    method: CaptionLikelihood | LetteredChoice,
) -> None:
    """Refuse what the model cannot be evaluated on."""
    if kind is Kind.DETECTOR:
        accepted = "dual encoders, ComAlign and image-text-to-text models"
        raise ValueError(f"{name} is an object detector; {accepted} can be evaluated")
    for benchmark in benchmarks:
        if reason := _why_not(kind, config, benchmark, regions, method):
            raise ValueError(f"{name} cannot be evaluated on {benchmark.name}: {reason}")


def _why_not(
    kind: Kind,
    config: PreTrainedConfig,
    benchmark: Benchmark,
    regions: Regions | None,
    method: CaptionLikelihood | LetteredChoice,
) -> str | None:
    """Say why a model of a kind cannot be evaluated on a benchmark, where it cannot."""
    in_words = kind is Kind.IMAGE_TEXT_TO_TEXT
    if isinstance(benchmark, SceneQuestions):
        return None if in_words else f"only an image-text-to-text model answers questions, and it is a {kind.value}"
    if in_words and benchmark.compares_texts:
        return "it compares texts with one another, and an image-text-to-text model embeds no texts"
    prompts = max(1 if isinstance(text, str) else len(text) for text in benchmark.texts)
    if prompts > 1 and kind is not Kind.DUAL_ENCODER:
        return f"it averages ensembles of {prompts} prompts, which only dual encoders can, and it is a {kind.value}"
    captions = benchmark.text_groups.shape[1]
    if in_words and isinstance(method, LetteredChoice) and captions > len(LETTERS):
        return f"it compares {captions} captions per image; LetteredChoice accepts at most {len(LETTERS)}"
    if kind is Kind.COMALIGN:
        if config.score == "released" and regions is None:
            return "score='released' needs regions; give regions, or set model.config.score='mean'"
        return why_not_single_items(config.score, len(benchmark.image_groups))
    return None


def _encode_components(
    model: ComAlignModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[Benchmark],
    regions: Regions | None,
    cache: str | Path | None,
    options: dict[str, Any],
) -> _Encoded:
    """Encode the benchmarks with ComAlign."""
    backbone = model.backbone
    stores = None if cache is None else feature_stores(cache, backbone, processor)
    notes = [] if regions else ["no regions were given, so captions are compared with whole images"]
    options = {"regions": regions or _no_regions, "stores": stores, **options}
    scorer = encode_components(model, processor, *_all_references(benchmarks), **options)
    return _Encoded([_Part(benchmarks, scorer)], _text_settings(backbone, processor), notes)


def _no_regions(image: Any) -> tuple[list[Entity], list[Relation]]:
    """Find nothing in an image."""
    return [], []


def _ask(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[Benchmark],
    name: str,
    method: CaptionLikelihood | LetteredChoice,
    blind: bool,
    options: dict[str, Any],
) -> _Encoded:
    """Ask an image-text-to-text model: about the captions of all benchmarks together, and each set of questions."""
    notes = []
    if blind and isinstance(processor, PaliGemmaProcessor):
        notes.append("no blind baseline of the model itself: PaliGemma reads no text without an image")
        blind = False
    blind_name = f"{name} without the image"
    parts: list[_Part] = []
    settings: dict[str, Any] = {}
    captions = [benchmark for benchmark in benchmarks if not isinstance(benchmark, SceneQuestions)]
    if captions:
        images, texts = _all_references(captions)
        scorer = encode_conversations(model, processor, images, texts, _joint_groups(captions), method, **options)
        settings |= {"method": type(method).__name__, **asdict(method)}
        for place, benchmark in enumerate(captions):
            if blind and isinstance(benchmark, CaptionChoice):
                groups = np.zeros((len(benchmark.text_groups), 1), dtype=np.int64), benchmark.text_groups
                unseen = encode_conversations(model, processor, [None], benchmark.texts, [groups], method, **options)
                captions[place] = benchmark.with_baseline(blind_name, unseen.scores(*groups)[:, :, 0])
        parts.append(_Part(captions, scorer))
    for benchmark in benchmarks:
        if isinstance(benchmark, SceneQuestions):
            answered = answer_questions(model, processor, benchmark, **options)
            if blind:
                unseen_answers = answer_questions(model, processor, benchmark, with_images=False, **options)
                benchmark = benchmark.with_baseline(blind_name, unseen_answers.correct)
            parts.append(_Part([benchmark], answered))
            settings["questions"] = "greedy answer"
    return _Encoded(parts, settings, notes)


def _all_references(benchmarks: Sequence[Benchmark]) -> tuple[list[Any], list[Any]]:
    """Concatenate the images, and the texts, of all benchmarks."""
    images = [image for benchmark in benchmarks for image in benchmark.images]
    return images, [text for benchmark in benchmarks for text in benchmark.texts]


def _joint_groups(benchmarks: Sequence[Benchmark]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the image groups and the text groups of each benchmark, as positions in `_all_references`."""
    first_image = first_text = 0
    for benchmark in benchmarks:
        yield benchmark.image_groups + first_image, benchmark.text_groups + first_text
        first_image, first_text = first_image + len(benchmark.images), first_text + len(benchmark.texts)


def _scored(part: _Part) -> Iterator[tuple[str, BenchmarkResult]]:
    """Score the benchmarks of a part."""
    first_image = 0
    for benchmark, (image_groups, text_groups) in zip(part.benchmarks, _joint_groups(part.benchmarks), strict=True):
        scores = [part.scorer.scores(image_groups, text_groups)]
        if benchmark.compares_texts:
            scores.append(part.scorer.text_scores(text_groups))
        metrics, rows = benchmark.score(*scores)
        end_image = first_image + len(benchmark.images)
        yield (
            benchmark.name,
            BenchmarkResult(
                suite=benchmark.suite,
                ability=benchmark.ability,
                columns=benchmark.columns,
                scores=metrics,
                n_listed=benchmark.n_listed,
                n_found=benchmark.n_found,
                content_hash=_content_hash(benchmark, part.scorer.image_keys[first_image:end_image]),
                notes=benchmark.notes,
                rows=rows,
            ),
        )
        first_image = end_image


def _content_hash(benchmark: Benchmark, image_keys: Sequence[str]) -> str:
    """Hash the images, texts and groups of a benchmark."""
    content = hashlib.sha256(json.dumps([list(image_keys), benchmark.texts]).encode())
    for groups in (benchmark.image_groups, benchmark.text_groups):
        content.update(np.ascontiguousarray(groups, dtype=np.int64).tobytes())
    return content.hexdigest()[:16]


def _encoder_settings(encoder: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """Collect the settings of an encoder that change scores, for `Results`."""
    towers = {"text": encoder.config.text_config, "vision": encoder.config.vision_config}
    image = json.loads(processor.image_processor.to_json_string())
    return {
        # Towers from some libraries do not state their activation function.
        "activation": {tower: config.to_dict().get("hidden_act", "unknown") for tower, config in towers.items()},
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "preprocessing": {"image": {key: image[key] for key in IMAGE_SETTINGS if key in image}},
    }


def _text_settings(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, Any]:
    """Collect the settings of a dual encoder's tokenizer that change scores."""
    return {"padding": caption_padding(model.config), "max_length": text_length(model.config, processor.tokenizer)}
