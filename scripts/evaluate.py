"""Evaluate models side by side: one table, results.json a model, and a chart.

    compalign evaluate --models runs/degla openai/clip-vit-base-patch32 \
        --benchmarks sugarcrepe:annotations=sugar-crepe/data,images=coco/val2017 --output_dir results

Dual encoders score by cosine; image-text-to-text models by the likelihood of each caption as an answer.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..evaluation import (
    BENCHMARKS,
    Benchmark,
    CaptionChoice,
    Results,
    evaluate_generative,
    evaluate_model,
    plot_results,
    table,
)
from ..trainers.recipe import parse_recipe
from .benchmark_arguments import BenchmarkArguments, requested


@dataclass
class EvaluateArguments(BenchmarkArguments):
    """What to evaluate."""

    models: list[str] = field(
        default_factory=list, metadata={"help": "Hub ids or folders of dual encoders or image-text-to-text models."}
    )
    output_dir: str = field(default="results", metadata={"help": "Where results and the chart go."})


def main(arguments: list[str] | None = None) -> None:
    """Evaluate, print, write."""
    (args,) = parse_recipe(EvaluateArguments, arguments=arguments, description=__doc__)
    if not args.models:
        raise ValueError("no model to evaluate: give --models with Hub ids or folders")
    benchmarks = requested(args)
    report([evaluate(path, benchmarks, args) for path in args.models], Path(args.output_dir))


def evaluate(path: str, benchmarks: list[Benchmark], args: EvaluateArguments) -> Results:
    """Evaluate one model, by what its configuration says it is."""
    generative = type(AutoConfig.from_pretrained(path)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    model_class = AutoModelForImageTextToText if generative else AutoModel
    model = model_class.from_pretrained(path, dtype=torch.float32)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    processor = AutoProcessor.from_pretrained(path)
    name = Path(path).name if Path(path).is_dir() else path
    if generative:
        return evaluate_generative(model, processor, benchmarks, batch_size=args.batch_size, name=name)
    return evaluate_model(model, processor, benchmarks, args.batch_size, name, args.num_workers, cache=args.cache)


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
    choices = [name for name in results[0].benchmarks if issubclass(BENCHMARKS[name], CaptionChoice)]
    if choices:
        plot_results(results, folder / "chart.png", composition=choices[0])
        written = f"chart.png, {written}"
    print(f"Written to {folder}: {written}")
