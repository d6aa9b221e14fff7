"""Fine-tune NegCLIP, CE-CLIP and DeGLA from the small base model and compare the four.

    compalign demo

Everything is generated on the spot: nothing is downloaded. Writes into the output folder each model with its card and
results.json, one table and one chart.
"""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor, CLIPModel, ProcessorMixin, set_seed
from transformers.utils import logging

from ..data.scenes import SceneDataset
from ..evaluation import Results, SceneComposition, SceneRetrieval, SceneZeroShot, evaluate_model
from ..hub_cards import write_card
from ..modeling import CECLIPModel, DeGLACLIPModel
from ..trainers import (
    CECLIPArguments,
    CECLIPTrainer,
    DeGLAArguments,
    DeGLATrainer,
    NegCLIPArguments,
    NegCLIPTrainer,
)
from ..trainers.recipe import parse_recipe
from .evaluate import report

RECIPES = files("compalign.scripts") / "recipes"
BASE = files("compalign.hub_cards") / "released" / "scenes_base"
METHODS = {
    "negclip": (CLIPModel, NegCLIPTrainer, NegCLIPArguments),
    "ceclip": (CECLIPModel, CECLIPTrainer, CECLIPArguments),
    "degla": (DeGLACLIPModel, DeGLATrainer, DeGLAArguments),
}


@dataclass
class DemoArguments:
    """How much to do; the recipes of the three methods are scripts/recipes/scenes_<method>.yaml."""

    output_dir: str = field(default="demo", metadata={"help": "Where models, cards, results and the chart go."})
    base: str = field(default=str(BASE), metadata={"help": "The model to start from."})
    max_steps: int | None = field(default=None, metadata={"help": "Training steps a method; default: the recipe's."})
    items: int = field(default=300, metadata={"help": "Test items a kind of negative, and retrieval pairs; even."})
    seed: int = field(default=0, metadata={"help": "Of the training data and its order; the test items stay."})


def main(arguments: list[str] | None = None) -> list[Results]:
    """Evaluate the base, fine-tune and evaluate each method, report."""
    (args,) = parse_recipe(DemoArguments, arguments=arguments, description=__doc__)
    logging.set_verbosity_error()
    folder = Path(args.output_dir)
    processor = AutoProcessor.from_pretrained(args.base)
    benchmarks = [SceneComposition(args.items), SceneZeroShot(), SceneRetrieval(args.items)]

    base = AutoModel.from_pretrained(args.base, dtype=torch.float32)
    results = [evaluate_model(base, processor, benchmarks, name="base")]
    for method in METHODS:
        print(f"\n{method}: fine-tuning")
        model, recipe = fine_tune(method, args, processor)
        results.append(evaluate_model(model, processor, benchmarks, name=method))
        write_card(folder / method, method, results[-1], base_results=results[0], recipe=recipe)
    print()
    report(results, folder)
    return results


def fine_tune(method: str, args: DemoArguments, processor: ProcessorMixin) -> tuple[torch.nn.Module, dict]:
    """Train one method by its recipe, save it, and return it with what its recipe says."""
    model_class, trainer_class, arguments_class = METHODS[method]
    folder = Path(args.output_dir, method)
    steps = [] if args.max_steps is None else ["--max_steps", str(args.max_steps)]
    flags = ["--output_dir", str(folder), "--seed", str(args.seed), *steps]
    recipe = RECIPES / f"scenes_{method}.yaml"
    (training,) = parse_recipe(arguments_class, arguments=["--config", str(recipe), *flags])
    set_seed(training.seed)
    scenes = int(training.max_steps * training.train_batch_size)
    trainer = trainer_class(
        model=model_class.from_pretrained(args.base, dtype=torch.float32),
        args=training,
        train_dataset=SceneDataset(scenes, num_negatives=training.num_negatives, seed=training.seed),
        processing_class=processor,
    )
    trainer.train()
    trainer.model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training_log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
    return trainer.model, training.to_dict()
