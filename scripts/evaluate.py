"""Evaluate models side by side: one table, results.json a model, and a chart.

    compalign evaluate --models runs/degla openai/clip-vit-base-patch32 \
        --sugarcrepe sugar-crepe/data --images coco/val2017 --output_dir results
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor

from .. import modeling  # noqa: F401  (makes our model types known to AutoModel)
from ..evaluation import Benchmark, Results, SceneComposition, SugarCrepe, evaluate_model, plot_results, table
from ..trainers.recipe import parse_recipe

SCENES = ["scenes_composition", "scenes_zero_shot", "scenes_retrieval"]


@dataclass
class EvaluateArguments:
    """What to evaluate, and on what."""

    models: list[str] = field(metadata={"help": "Hub ids or folders of CLIP-like models."})
    scenes: bool = field(default=False, metadata={"help": "Evaluate on generated scenes."})
    sugarcrepe: str | None = field(default=None, metadata={"help": "Folder of SugarCrepe's JSON files."})
    images: str | None = field(default=None, metadata={"help": "Folder of its images, COCO val2017."})
    minimum_coverage: float = field(default=1.0, metadata={"help": "Least share of items whose image is there."})
    output_dir: str = field(default="results", metadata={"help": "Where results and the chart go."})
    batch_size: int = field(default=256, metadata={"help": "Images, and texts, a forward pass."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode images."})


def main(arguments: list[str] | None = None) -> None:
    """Evaluate, print, write."""
    (args,) = parse_recipe(EvaluateArguments, arguments=arguments, description=__doc__)
    benchmarks = requested(args)
    results = []
    for path in args.models:
        model = AutoModel.from_pretrained(path, dtype=torch.float32)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        processor = AutoProcessor.from_pretrained(path)
        name = Path(path).name if Path(path).is_dir() else path
        results.append(evaluate_model(model, processor, benchmarks, args.batch_size, name, args.num_workers))
    report(results, Path(args.output_dir))


def requested(args: EvaluateArguments) -> list[str | Benchmark]:
    """The benchmarks that the arguments ask for."""
    benchmarks: list[str | Benchmark] = list(SCENES) if args.scenes else []
    if args.sugarcrepe is not None:
        if args.images is None:
            raise ValueError("sugarcrepe needs images: the folder of COCO val2017")
        benchmarks.append(SugarCrepe(args.sugarcrepe, args.images, args.minimum_coverage))
    if not benchmarks:
        raise ValueError("nothing to evaluate on: give --scenes true, or --sugarcrepe with --images")
    return benchmarks


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
    suite = SceneComposition.name if SceneComposition.name in results[0].benchmarks else SugarCrepe.name
    plot_results(results, folder / "chart.png", composition=suite)
    print(f"Written to {folder}: table.md, chart.png, and results.json of each model")
