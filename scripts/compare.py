"""Set results beside one another, beside the numbers of the papers and on the map; evaluate mixes of two models.

    compalign compare --results results/base/results.json results/degla/results.json --published \
        --map vl_compo_results.csv --output_dir comparison
    compalign compare --interpolate openai/clip-vit-base-patch32 runs/degla --alphas 0 0.25 0.5 0.75 1 --scenes

Results of other items are refused, and published numbers with known errors carry footnotes. The file of the map is
results.csv of https://github.com/ytaek-oh/vl_compo (Oh et al. 2024, arXiv 2406.09388), which compalign may not ship.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe
from .evaluate import BenchmarkArguments

if TYPE_CHECKING:
    from ..evaluation import Results


@dataclass
class CompareArguments(BenchmarkArguments):
    """Results to compare, and models to mix. Mixes are evaluated on benchmarks given as for `compalign evaluate`."""

    results: list[str] = field(
        default_factory=list, metadata={"help": "Files results.json of different models.", "group": "data"}
    )
    published: bool = field(default=False, metadata={"help": "Set the results beside the rows of the papers."})
    map: str | None = field(default=None, metadata={"help": "Your copy of vl_compo's results.csv; draws the map."})
    interpolate: list[str] | None = field(
        default=None, metadata={"help": "Two models to mix: a base, and a model fine-tuned from it.", "group": "model"}
    )
    alphas: list[float] = field(
        default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0],
        metadata={"help": "Weights of the fine-tuned model in the mixes, 0 to 1."},
    )
    composition: str = field(
        default="scenes_composition/all_macro", metadata={"help": "Score that should improve, as benchmark/score."}
    )
    retention: str = field(
        default="scenes_zero_shot/top1", metadata={"help": "Score that should stay, as benchmark/score."}
    )
    output_dir: str = field(
        default="comparison", metadata={"help": "Folder of tables, results and pictures.", "group": "output"}
    )


def main(arguments: list[str] | None = None) -> None:
    """Compare what was given; print and write."""
    (args,) = parse_recipe(CompareArguments, arguments=arguments, description=__doc__, command="compalign compare")
    if args.published and not args.results:
        raise ValueError("--published needs --results: files results.json to set beside the rows of the papers")
    if not (args.results or args.map or args.interpolate):
        raise ValueError("nothing to compare: give --results, --map or --interpolate")
    if args.interpolate is not None and len(args.interpolate) != 2:
        raise ValueError(f"--interpolate {args.interpolate}; must be two models: a base, and one fine-tuned from it")
    from ..evaluation import Results, plot_map, plot_published, published_table, table

    results = [Results.from_json(path) for path in args.results]
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    tables = [table(results)] if results else []
    if args.published:
        tables.append(published_table(results))
        plot_published(results, path=folder / "published.png")
    if args.map is not None:
        plot_map(args.map, results=results, path=folder / "map.png")
    if args.interpolate is not None:
        tables.append(table(mix(args, folder)))
    text = "\n".join(tables)
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def mix(args: CompareArguments, folder: Path) -> "list[Results]":
    """Evaluate the mixes of two models; write the results of each and the picture of their trade-off."""
    from ..evaluation import evaluate_interpolations, plot_interpolations
    from ..evaluation.requests import requested_benchmarks
    from ..modeling.kinds import Kind, default_device, load_model, load_processor
    from .scoring.kinds import check_kind

    benchmarks = requested_benchmarks(args.benchmarks, args.scenes)
    for path in args.interpolate:
        check_kind(path, Kind.DUAL_ENCODER)
    base, tuned = (load_model(path, merge_adapter=True) for path in args.interpolate)
    tuned.to(default_device())
    processor = load_processor(args.interpolate[1])
    results = evaluate_interpolations(
        base, tuned, processor, benchmarks, args.alphas, batch_size=args.batch_size, num_workers=args.num_workers
    )
    for alpha, result in results.items():
        own = folder / f"alpha-{alpha:g}"
        own.mkdir(exist_ok=True)
        result.to_json(own / "results.json")
    plot_interpolations(
        results, path=folder / "interpolation.png", composition=args.composition, retention=args.retention
    )
    return list(results.values())
