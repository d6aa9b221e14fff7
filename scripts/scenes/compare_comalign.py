"""ComAlign's heads over the small base model of the generated world, against that model alone.

    compalign scenes compare_comalign --config scripts/recipes/comalign_scenes.yaml --output_dir runs/comparison

For every seed it trains heads on scenes of the training split, and scores both models on retrieval and composition of
the test split, whose combinations of colour and noun never occur in training. Regions come from the scene graph,
phrases from the text of the captions. Finished runs are read from the output folder.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ...evaluation import Results, SceneComposition, SceneRetrieval, evaluate_model, table
from ...modeling import load_model, load_processor
from ...trainers import ComAlignArguments
from ...trainers.launch.comalign import ComponentDataArguments, ComponentModelArguments, make_comalign_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from ..scoring.regions import regions_of


@dataclass
class ComAlignScenesArguments:
    """The runs to compare and the items to score them on."""

    seeds: int = field(default=3, metadata={"help": "Number of seeds; each trains its own heads."})
    items: int = field(
        default=300, metadata={"help": "Test items per kind of negative, and retrieval pairs; an even number."}
    )
    split: str = field(default="test", metadata={"help": "test, or validation to choose settings on."})


def main(arguments: list[str] | None = None) -> list[Results]:
    """Train what is missing, score, print the table."""
    comparison, start, data, args = parse_recipe(
        ComAlignScenesArguments,
        ComponentModelArguments,
        ComponentDataArguments,
        ComAlignArguments,
        arguments=arguments,
        description=__doc__,
        command="compalign scenes compare_comalign",
    )
    folder = Path(args.output_dir)
    benchmarks = [
        SceneComposition(comparison.items, image_size=data.scene_size, split=comparison.split),
        SceneRetrieval(comparison.items, image_size=data.scene_size, split=comparison.split),
    ]
    regions, _ = regions_of(benchmarks)
    backbone, processor = load_model(start.backbone), load_processor(start.backbone)
    results = [evaluate_model(backbone, processor, benchmarks, name="base", progress=False, cache=data.features)]
    for seed in range(comparison.seeds):
        path = folder / f"seed{seed}" / "results.json"
        if not path.exists():
            args.seed, args.output_dir = seed, str(path.parent)
            trainer = make_comalign_trainer(start, data, args)
            train_and_save(trainer)
            own = evaluate_model(
                trainer.model,
                processor,
                benchmarks,
                name=f"comalign, seed {seed}",
                progress=False,
                cache=data.features,
                regions=regions,
            )
            own.to_json(path)
        results.append(Results.from_json(path))
    print(table(results))
    return results
