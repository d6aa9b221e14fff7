"""Set results beside one another, beside what papers print, and on the map; evaluate mixes of two models.

    compalign compare --results results/base/results.json results/degla/results.json --published true \
        --map vl_compo_results.csv --output_dir comparison

    compalign compare --interpolate openai/clip-vit-base-patch32 runs/degla --alphas 0 0.25 0.5 0.75 1 --scenes true

Results of other items are refused, and published numbers with known errors carry footnotes. The file of the map is
results.csv of https://github.com/ytaek-oh/vl_compo (Oh et al. 2024, arXiv 2406.09388), which compalign may not ship.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor

from .. import modeling  # noqa: F401  (makes our model types known to AutoModel)
from ..evaluation.interpolation import evaluate_interpolations, plot_interpolations
from ..evaluation.map import plot_map
from ..evaluation.published import plot_published, published_table
from ..evaluation.report import table
from ..evaluation.results import Results
from ..trainers.recipe import parse_recipe
from .benchmark_arguments import BenchmarkArguments, requested
from .checkpoints import device


@dataclass
class CompareArguments(BenchmarkArguments):
    """What to compare. What mixes are evaluated on is given as for `compalign evaluate`."""

    results: list[str] = field(default_factory=list, metadata={"help": "Files results.json, of different models."})
    published: bool = field(default=False, metadata={"help": "Set results beside the papers' rows."})
    map: str | None = field(default=None, metadata={"help": "Your copy of vl_compo's results.csv, to draw the map."})
    interpolate: list[str] | None = field(
        default=None, metadata={"help": "Two models to mix: a base, and what was fine-tuned from it."}
    )
    alphas: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0], metadata={"help": "Shares of the fine-tuned weights."}
    )
    composition: str = field(
        default="scenes_composition/all_macro", metadata={"help": "Score of mixes that shall rise, benchmark/score."}
    )
    retention: str = field(
        default="scenes_zero_shot/top1", metadata={"help": "Score of mixes that shall stay, benchmark/score."}
    )
    output_dir: str = field(default="comparison", metadata={"help": "Where tables, results and pictures go."})


def main(arguments: list[str] | None = None) -> None:
    """Compare what was given; print and write."""
    (args,) = parse_recipe(CompareArguments, arguments=arguments, description=__doc__)
    results = [Results.from_json(path) for path in args.results]
    if args.published and not results:
        raise ValueError("published needs results: files results.json to set beside the papers' rows")
    if not (results or args.map or args.interpolate):
        raise ValueError("nothing to compare: give --results, --map or --interpolate")
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    tables = [table(results)] if results else []
    if args.published:
        tables.append(published_table(results))
        plot_published(results, folder / "published.png")
    if args.map is not None:
        plot_map(args.map, folder / "map.png", results)
    if args.interpolate is not None:
        tables.append(table(mix(args, folder)))
    text = "\n".join(tables)
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def mix(args: CompareArguments, folder: Path) -> list[Results]:
    """Evaluate the mixes of two models; write the results of each and the picture of their trade-off."""
    if len(args.interpolate) != 2:
        raise ValueError(f"interpolate {args.interpolate}; must be two models, a base and what was fine-tuned from it")
    benchmarks = requested(args)
    base, tuned = (AutoModel.from_pretrained(path, dtype=torch.float32) for path in args.interpolate)
    tuned.to(device())
    processor = AutoProcessor.from_pretrained(args.interpolate[1])
    results = evaluate_interpolations(
        base, tuned, processor, benchmarks, args.alphas, batch_size=args.batch_size, num_workers=args.num_workers
    )
    for alpha, result in results.items():
        own = folder / f"alpha-{alpha:g}"
        own.mkdir(exist_ok=True)
        result.to_json(own / "results.json")
    plot_interpolations(results, folder / "interpolation.png", args.composition, args.retention)
    return list(results.values())
