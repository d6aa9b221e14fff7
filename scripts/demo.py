"""Fine-tune NegCLIP, CE-CLIP and DeGLA from the small base model and compare the four.

    compalign demo

Everything is generated on the spot: nothing is downloaded. Writes into the output folder each model with its card and
results.json, one table and one chart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor, CLIPModel, PreTrainedModel, ProcessorMixin, TrainerState, set_seed
from transformers.utils import logging

from ..data.scenes import SceneDataset
from ..evaluation import Benchmark, Results, SceneComposition, SceneRetrieval, SceneZeroShot, evaluate_model
from ..hub_cards import write_card
from ..hub_cards.verify import RESULTS, check_card
from ..modeling import CECLIPModel, DeGLACLIPModel
from ..trainers import (
    CECLIPArguments,
    CECLIPTrainer,
    DeGLAArguments,
    DeGLATrainer,
    NegCLIPArguments,
    NegCLIPTrainer,
)
from ..trainers.base import AlignmentArguments
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
class TrainingChoice:
    """What to start from and how much to do; all else is in the recipes."""

    base: str = field(default=str(BASE), metadata={"help": "The model to start from."})
    max_steps: int | None = field(default=None, metadata={"help": "Training steps a method; default: the recipe's."})
    items: int = field(
        default=300, metadata={"help": "Test items a kind of negative, retrieval pairs, scenes asked about; even."}
    )
    seed: int = field(default=0, metadata={"help": "Of the training data and its order; the test items stay."})

    def flags(self, name: str, folder: Path) -> list[str]:
        """A recipe of `scripts/recipes` as a command line, with what was chosen on top."""
        steps = [] if self.max_steps is None else ["--max_steps", str(self.max_steps)]
        chosen = ["--output_dir", str(folder), "--seed", str(self.seed), *steps]
        return ["--config", str(RECIPES / f"{name}.yaml"), *chosen]


@dataclass
class DemoArguments(TrainingChoice):
    """How much to do; the recipes of the three methods are scripts/recipes/scenes_<method>.yaml."""

    output_dir: str = field(default="demo", metadata={"help": "Where models, cards, results and the chart go."})


def main(arguments: list[str] | None = None) -> list[Results]:
    """Evaluate the base, fine-tune and evaluate each method, report."""
    (args,) = parse_recipe(DemoArguments, arguments=arguments, description=__doc__)
    logging.set_verbosity_error()
    folder = Path(args.output_dir)
    benchmarks = dual_encoder_benchmarks(args.items)
    results = [evaluate_saved(args.base, benchmarks, "base")]
    for method in METHODS:
        print(f"\n{method}: fine-tuning")
        training = training_arguments(method, folder / method, args)
        fine_tune(method, training, args.base)
        results.append(evaluate_saved(folder / method, benchmarks, method))
        document(folder / method, method, results[-1], training.to_dict(), base_results=results[0])
    print()
    report(results, folder)
    return results


def training_arguments(method: str, folder: Path, choice: TrainingChoice) -> AlignmentArguments:
    """The recipe of a method that fine-tunes dual encoders."""
    arguments_class = METHODS[method][2]
    return parse_recipe(arguments_class, arguments=choice.flags(f"scenes_{method}", folder))[0]


def fine_tune(method: str, training: AlignmentArguments, base: str) -> None:
    """Train a dual encoder and save it in the output folder of its recipe."""
    model_class, trainer_class, _ = METHODS[method]
    set_seed(training.seed)
    scenes = int(training.max_steps * training.train_batch_size)
    processor = AutoProcessor.from_pretrained(base)
    trainer = trainer_class(
        model=model_class.from_pretrained(base, dtype=torch.float32),
        args=training,
        train_dataset=SceneDataset(scenes, num_negatives=training.num_negatives, seed=training.seed),
        processing_class=processor,
    )
    trainer.train()
    save(trainer.model, processor, trainer.state, Path(training.output_dir))


def save(model: PreTrainedModel, processor: ProcessorMixin, state: TrainerState, folder: Path) -> None:
    """Save a model, its processor and the log of its training."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training_log.json").write_text(json.dumps(state.log_history, indent=1) + "\n")


def dual_encoder_benchmarks(items: int) -> list[Benchmark]:
    """What dual encoders are asked about the generated world."""
    return [SceneComposition(items), SceneZeroShot(), SceneRetrieval(items)]


def evaluate_saved(folder: str | Path, benchmarks: Sequence[Benchmark], name: str) -> Results:
    """Evaluate a dual encoder as its users load it."""
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    return evaluate_model(model, processor, benchmarks, name=name)


def document(folder: Path, method: str, results: Results, recipe: Mapping[str, Any], **card: Any) -> None:
    """Write the results of a saved model and its card beside the weights, and check the card.

    Args:
        folder (`Path`): Folder of the weights.
        method, results, recipe, card: As for `render_card`.

    Raises:
        ValueError: If the card is not what the Hub, or a reader, needs.
    """
    results.to_json(folder / RESULTS)
    write_card(folder, method, results, recipe, **card)
    findings = check_card(folder, ".")
    if findings:
        raise ValueError("\n  ".join([f"{folder}: the card is wrong", *map(str, findings)]))
