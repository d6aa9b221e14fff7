"""Evaluate models side by side: one table, results.json a model, and a chart.

    compalign evaluate --models runs/degla openai/clip-vit-base-patch32 \
        --benchmarks sugarcrepe:annotations=sugar-crepe/data,images=coco/val2017 --output_dir results

Dual encoders score by cosine; image-text-to-text models by the likelihood of each caption as an answer. What a language
model makes of the captions alone stands beside them with `--blind_language_model gpt2`; what of the benchmarks stands
in a training file is counted and named with `--contamination train.tsv`.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..evaluation import (
    Benchmark,
    CaptionChoice,
    CausalLikelihood,
    Results,
    check_contamination,
    evaluate_generative,
    evaluate_model,
    plot_results,
    table,
)
from ..trainers.recipe import parse_recipe
from .benchmark_arguments import BenchmarkArguments, requested
from .checkpoints import device, is_image_text_to_text

NAMED = 3  # shared images, and captions, that a note names


@dataclass
class EvaluateArguments(BenchmarkArguments):
    """What to evaluate."""

    models: list[str] = field(
        default_factory=list, metadata={"help": "Hub ids or folders of dual encoders or image-text-to-text models."}
    )
    blind_language_model: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a causal language model that judges captions unseen."}
    )
    contamination: str | None = field(
        default=None,
        metadata={"help": "Training file in which images and captions of the benchmarks are looked for."},
    )
    output_dir: str = field(default="results", metadata={"help": "Where results and the chart go."})


def main(arguments: list[str] | None = None) -> None:
    """Evaluate, print, write."""
    (args,) = parse_recipe(EvaluateArguments, arguments=arguments, description=__doc__)
    if not args.models:
        raise ValueError("no model to evaluate: give --models with Hub ids or folders")
    benchmarks = requested(args)
    if args.blind_language_model is not None:
        benchmarks = with_language_model(benchmarks, args.blind_language_model)
    if args.contamination is not None:
        benchmarks = [with_contamination(benchmark, args.contamination) for benchmark in benchmarks]
    report([evaluate(path, benchmarks, args) for path in args.models], Path(args.output_dir))


def evaluate(path: str, benchmarks: list[Benchmark], args: EvaluateArguments) -> Results:
    """Evaluate one model, by what its configuration says it is."""
    generative = is_image_text_to_text(AutoConfig.from_pretrained(path))
    model_class = AutoModelForImageTextToText if generative else AutoModel
    model = model_class.from_pretrained(path, dtype=torch.float32)
    model.to(device())
    processor = AutoProcessor.from_pretrained(path)
    name = short_name(path)
    if generative:
        return evaluate_generative(model, processor, benchmarks, batch_size=args.batch_size, name=name)
    return evaluate_model(model, processor, benchmarks, args.batch_size, name, args.num_workers, cache=args.cache)


def with_language_model(benchmarks: Sequence[Benchmark], path: str) -> list[Benchmark]:
    """Add to choices between captions what a causal language model makes of the captions alone.

    Args:
        benchmarks (sequence of `Benchmark`): At least one that chooses between captions; others stay as they are.
        path (`str`): Hub id or folder of the language model.

    Raises:
        ValueError: If no benchmark chooses between captions.
    """
    captions = {text for benchmark in benchmarks if isinstance(benchmark, CaptionChoice) for text in benchmark.texts}
    if not captions:
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise ValueError(f"blind_language_model {path}: none of {names} chooses between captions")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).to(device())
    score = CausalLikelihood(model, AutoTokenizer.from_pretrained(path))
    likelihood = dict(zip(captions, score(list(captions)), strict=True))

    def with_likelihood(choice: CaptionChoice) -> CaptionChoice:
        scores = np.array([likelihood[text] for text in choice.texts])[choice.text_groups]  # (items, captions)
        return choice.with_baseline(f"{short_name(path)} likelihood", scores)

    return [with_likelihood(each) if isinstance(each, CaptionChoice) else each for each in benchmarks]


def with_contamination(benchmark: Benchmark, training: str) -> Benchmark:
    """Note how much of a benchmark stands in a training file, and the first images and captions of it.

    Args:
        benchmark (`Benchmark`): The benchmark; a copy with the note is returned.
        training (`str`): Anything that `compalign.data.load_captions` reads.
    """
    overlap = check_contamination(training, benchmark)
    named = {"images": overlap.images, "captions": [repr(caption) for caption in overlap.captions]}
    examples = [f"; {kind} such as {', '.join(found[:NAMED])}" for kind, found in named.items() if found]
    other = copy(benchmark)
    other.notes = [*benchmark.notes, f"checked against {training}: {overlap}{''.join(examples)}"]
    return other


def short_name(path: str) -> str:
    """What results call a model: the name of its folder, or its Hub id."""
    return Path(path).name if Path(path).is_dir() else path


def report(results: list[Results], folder: Path) -> None:
    """Print the table; write it, each model's results with the scores of every item, and the chart."""
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        own = folder / result.model.replace("/", "--")
        own.mkdir(exist_ok=True)
        result.to_json(own / "results.json")
        result.rows_to_jsonl(own / "rows.jsonl")
    text = table(results)
    (folder / "table.md").write_text(text)
    print(text)
    written = "table.md and results.json of each model"
    # Only a choice between captions can end in a tie.
    choices = [
        name
        for name, result in results[0].benchmarks.items()
        if any(score.tie_rate is not None for score in result.scores.values())
    ]
    if choices:
        plot_results(results, folder / "chart.png", composition=choices[0])
        written = f"chart.png, {written}"
    print(f"Written to {folder}: {written}")
