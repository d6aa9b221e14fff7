"""Evaluate models side by side: one table, a chart, and results.json of each model.

    compalign evaluate --models runs/degla openai/clip-vit-base-patch32 \
        --benchmarks sugarcrepe:annotations=sugar-crepe/data,images=coco/val2017 --output_dir results
    compalign evaluate --models runs/comalign --scenes

Dual encoders score by cosine, image-text-to-text models by the likelihood of each caption as an answer, and ComAlign by
its regions and phrases: those of generated scenes are known, those of other images come from --detector. Adapters are
merged into their base. --blind_language_model gpt2 adds what a language model makes of the captions alone, and
--contamination train.tsv counts and names the items of the benchmarks that a training file holds. --report adds a page,
index.html, with the scores and the items, their images and what each model chose.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..trainers.launch.recipe import parse_recipe

if TYPE_CHECKING:
    from ..evaluation import Benchmark, CaptionChoice, Results

NAMED = 3  # shared images, and captions, that a note names


@dataclass
class BenchmarkArguments:
    """The benchmarks, and how fast they are run."""

    GROUP: ClassVar[str] = "data"

    scenes: bool = field(default=False, metadata={"help": "Evaluate on generated scenes, which need no files."})
    benchmarks: list[str] = field(
        default_factory=list,
        metadata={"help": "Benchmarks as NAME:ARGUMENT=VALUE,... such as sugarcrepe:annotations=FOLDER,images=FOLDER"},
    )
    cache: str | None = field(
        default=None, metadata={"help": "Folder that keeps features for later evaluations.", "group": "what to do"}
    )
    batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Images, and texts, per forward pass. By default 256, or 32 for image-text-to-text models.",
            "group": "what to do",
        },
    )
    num_workers: int = field(default=0, metadata={"help": "Processes that decode images.", "group": "what to do"})


@dataclass
class EvaluateArguments(BenchmarkArguments):
    """Models to evaluate, and what stands beside their scores."""

    models: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Hub ids or folders of dual encoders, ComAlign's heads, image-text-to-text models, or adapters of "
            "them.",
            "group": "model",
        },
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "For ComAlign: Hub id or folder of the detector that finds the regions of photographs.",
            "group": "model",
        },
    )
    blind_language_model: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of a causal language model that judges the captions without the image.",
            "group": "model",
        },
    )
    contamination: str | None = field(
        default=None, metadata={"help": "Training file in which the benchmarks' images and captions are looked for."}
    )
    output_dir: str = field(
        default="results", metadata={"help": "Folder of the table, the chart and the results.", "group": "output"}
    )
    report: bool = field(
        default=False,
        metadata={
            "help": "Also write index.html: the scores and a gallery of the items, as one page that needs no network.",
            "group": "output",
        },
    )


def main(arguments: list[str] | None = None) -> "list[Results]":
    """Evaluate, print, write."""
    (args,) = parse_recipe(EvaluateArguments, arguments=arguments, description=__doc__, command="compalign evaluate")
    if not args.models:
        raise ValueError("no model to evaluate: give --models with Hub ids or folders")
    from ..evaluation.requests import requested_benchmarks

    benchmarks = requested_benchmarks(args.benchmarks, args.scenes)
    check_models(args.models, args.detector)
    if args.blind_language_model is not None:
        benchmarks = with_language_model(benchmarks, args.blind_language_model)
    if args.contamination is not None:
        benchmarks = [with_contamination(benchmark, args.contamination) for benchmark in benchmarks]
    results = [evaluate(path, benchmarks, args) for path in args.models]
    report(results, Path(args.output_dir), benchmarks if args.report else None)
    return results


def check_models(models: Sequence[str], detector: str | None) -> None:
    """Refuse what cannot be evaluated, before the first model is.

    Raises:
        ValueError: If a model is missing or of a kind that scores no captions, two models have the same name, or a
            detector is given and no model uses it.
    """
    from ..modeling.kinds import Kind, name_of
    from .scoring.kinds import check_kind

    kinds = {check_kind(path, Kind.DUAL_ENCODER, Kind.COMALIGN, Kind.IMAGE_TEXT_TO_TEXT) for path in models}
    if detector is not None and Kind.COMALIGN not in kinds:
        raise ValueError("--detector is for ComAlign, and no model is ComAlign's")
    places: dict[str, str] = {}
    for path in models:
        if name_of(path) in places:
            raise ValueError(f"two models are called {name_of(path)}: {places[name_of(path)]} and {path}")
        places[name_of(path)] = path


def evaluate(path: str, benchmarks: "Sequence[Benchmark]", args: EvaluateArguments) -> "Results":
    """Evaluate one model of any kind.

    Args:
        path (`str`): Hub id or folder of a model or an adapter.
        benchmarks (sequence of `Benchmark`): What to evaluate on.
        args (`EvaluateArguments`): How to evaluate.
    """
    from ..evaluation import evaluate_model
    from ..modeling.kinds import Kind, default_device, kind_of, load_model, load_processor, name_of
    from .scoring.components import load_heads
    from .scoring.regions import regions_of

    options = {
        "batch_size": args.batch_size,
        "name": name_of(path),
        "num_workers": args.num_workers,
        "cache": args.cache,
    }
    processor = load_processor(path)
    if kind_of(path) is not Kind.COMALIGN:
        model = load_model(path, merge_adapter=True).to(default_device())
        return evaluate_model(model, processor, benchmarks, **options)
    regions, notes = regions_of(benchmarks, args.detector)
    results = evaluate_model(load_heads(path), processor, benchmarks, regions=regions, **options)
    return replace(results, notes=[*results.notes, *notes])


def with_language_model(benchmarks: "Sequence[Benchmark]", path: str) -> "list[Benchmark]":
    """Add to choices between captions what a causal language model makes of the captions alone.

    Args:
        benchmarks (sequence of `Benchmark`): At least one that chooses between captions; others stay as they are.
        path (`str`): Hub id or folder of the language model.

    Raises:
        ValueError: If no benchmark chooses between captions, or the language model cannot be loaded.
    """
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ..evaluation import CaptionChoice, CausalLikelihood
    from ..modeling.kinds import default_device, name_of

    captions = {text for benchmark in benchmarks if isinstance(benchmark, CaptionChoice) for text in benchmark.texts}
    if not captions:
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise ValueError(f"--blind_language_model {path}: none of {names} chooses between captions")
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(default_device())
        score = CausalLikelihood(model, AutoTokenizer.from_pretrained(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
    likelihood = dict(zip(captions, score(list(captions)), strict=True))

    def with_likelihood(choice: "CaptionChoice") -> "CaptionChoice":
        scores = np.array([likelihood[text] for text in choice.texts])[choice.text_groups]  # (items, captions)
        return choice.with_baseline(f"{name_of(path)} likelihood", scores)

    return [with_likelihood(each) if isinstance(each, CaptionChoice) else each for each in benchmarks]


def with_contamination(benchmark: "Benchmark", training: str) -> "Benchmark":
    """Note how many images and captions of a benchmark a training file holds, and name the first of them.

    Args:
        benchmark (`Benchmark`): The benchmark; a copy with the note is returned.
        training (`str`): Anything that `compalign.data.load_captions` reads.
    """
    from ..evaluation import check_contamination

    overlap = check_contamination(training, benchmark)
    named = {"images": overlap.images, "captions": [repr(caption) for caption in overlap.captions]}
    examples = [f"; {kind} such as {', '.join(found[:NAMED])}" for kind, found in named.items() if found]
    other = copy(benchmark)
    other.notes = [*benchmark.notes, f"checked against {training}: {overlap}{''.join(examples)}"]
    return other


def report(results: "list[Results]", folder: Path, benchmarks: "Sequence[Benchmark] | None" = None) -> None:
    """Print the table; write it, the results and the scores of every item of each model, the chart, and a page.

    Args:
        results (`list[Results]`): Results of the models, with rows.
        folder (`Path`): Output folder; it is made where it does not exist.
        benchmarks (sequence of `Benchmark`, *optional*): The benchmarks that the models were evaluated on, for
            index.html, which shows their images. Default: there is no index.html.
    """
    from ..evaluation import plot_results, table, write_report

    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        own = folder / result.model.replace("/", "--")
        own.mkdir(exist_ok=True)
        result.to_json(own / "results.json")
        result.rows_to_jsonl(own / "rows.jsonl")
    text = table(results)
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text)
    written = "table.md and results.json of each model"
    compositional = [name for name, result in results[0].benchmarks.items() if result.ability == "composition"]
    if compositional:
        plot_results(results, path=folder / "chart.png", composition=compositional[0])
        written = f"chart.png, {written}"
    if benchmarks is not None:
        write_report(results, benchmarks, folder / "index.html")
        written = f"index.html, {written}"
    print(f"Written to {folder}: {written}")
