"""ComAlign's heads over the small base model of the generated world, against that model alone.

    python -m compalign.scripts.comalign_scenes --config scripts/recipes/comalign_scenes.yaml --output_dir runs/comalign

For every seed it trains heads on scenes of the training split, and scores both on retrieval and composition of the test
split, whose combinations of attribute and shape training never shows. Regions come from the scene graph, phrases from
the captions' text. Finished runs are read from the output folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from ..data.components import Entity, Relation
from ..data.scenes import NEGATIVE_KINDS, composition_items, render, retrieval_items
from ..data.scenes.components import scene_regions
from ..evaluation import Results, SceneComposition, SceneRetrieval, evaluate_model, table
from ..evaluation.evaluator import evaluate_comalign
from ..trainers import ComAlignArguments
from ..trainers.comalign_entry import ComponentDataArguments, ComponentModelArguments, make_comalign_trainer
from ..trainers.recipe import parse_recipe


@dataclass
class ComAlignScenesArguments:
    """What to compare."""

    seeds: int = field(default=3, metadata={"help": "Heads to train."})
    items: int = field(default=300, metadata={"help": "Test items a kind of negative, and retrieval pairs; even."})
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
    )
    folder = Path(args.output_dir)
    benchmarks = [
        SceneComposition(comparison.items, image_size=data.scene_size, split=comparison.split),
        SceneRetrieval(comparison.items, image_size=data.scene_size, split=comparison.split),
    ]
    regions = known_regions(comparison.items, data.scene_size, comparison.split)
    backbone = AutoModel.from_pretrained(start.backbone, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(start.backbone)
    results = [evaluate_model(backbone, processor, benchmarks, name="base", progress=False, cache=data.features)]
    for seed in range(comparison.seeds):
        path = folder / f"seed{seed}" / "results.json"
        if not path.exists():
            args.seed, args.output_dir = seed, str(path.parent)
            trainer = make_comalign_trainer(start, data, args)
            trainer.train()
            trainer.save_model()
            name = f"comalign, seed {seed}"
            evaluate_comalign(
                trainer.model, processor, benchmarks, regions, name=name, progress=False, cache=data.features
            ).to_json(path)
        results.append(Results.from_json(path))
    print(table(results))
    return results


def known_regions(
    items: int, size: int, split: str
) -> Callable[[Image.Image], tuple[Sequence[Entity], Sequence[Relation]]]:
    """What finds the regions in the drawn scenes of the benchmarks: their graphs."""
    asked: list[Any] = [item for kind in NEGATIVE_KINDS for item in composition_items(kind, items, split)]
    scenes = [item.scene for item in [*asked, *retrieval_items(items, split)]]
    known = {render(scene, size).tobytes(): scene_regions(scene, size) for scene in scenes}
    return lambda image: known[image.tobytes()]


if __name__ == "__main__":
    main()
