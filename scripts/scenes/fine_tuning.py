"""The small base model fine-tuned with one method, evaluated as its users load it, and documented."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import CLIPModel
from transformers.utils import logging

from ...data.scenes import SceneDataset
from ...evaluation import Benchmark, Results, SceneComposition, SceneRetrieval, SceneZeroShot, evaluate_model
from ...hub_cards import write_card
from ...hub_cards.verify import RESULTS, check_card
from ...modeling import CECLIPModel, DeGLACLIPModel, load_model, load_processor
from ...trainers import CECLIPArguments, CECLIPTrainer, DeGLAArguments, DeGLATrainer, NegCLIPArguments, NegCLIPTrainer
from ...trainers.dual_encoder import DualEncoderArguments
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from ..evaluate import report
from .choice import TrainingChoice

METHODS: dict[str, tuple[Any, Any, Any]] = {
    "negclip": (CLIPModel, NegCLIPTrainer, NegCLIPArguments),
    "ceclip": (CECLIPModel, CECLIPTrainer, CECLIPArguments),
    "degla": (DeGLACLIPModel, DeGLATrainer, DeGLAArguments),
}


def compare_methods(choice: TrainingChoice, folder: Path) -> list[Results]:
    """Evaluate the base model, fine-tune it with each method, evaluate and document each, and report all.

    Args:
        choice (`TrainingChoice`): Base model and amount of work.
        folder (`Path`): Gets one folder per method, the table and the chart.

    Returns:
        `list[Results]`: of the base model, then of each method.
    """
    logging.set_verbosity_error()
    benchmarks = dual_encoder_benchmarks(choice.items)
    results = [evaluate_saved(choice.base, benchmarks, "base")]
    for method in METHODS:
        print(f"\n{method}: fine-tuning")
        training = training_arguments(method, folder / method, choice)
        fine_tune(method, training, choice.base)
        results.append(evaluate_saved(folder / method, benchmarks, method))
        document(folder / method, method, results[-1], training.to_dict(), base_results=results[0])
    print()
    report(results, folder)
    return results


def training_arguments(method: str, folder: Path, choice: TrainingChoice) -> DualEncoderArguments:
    """Read the recipe of a method for dual encoders, with the choices on top."""
    arguments_class = METHODS[method][2]
    return parse_recipe(arguments_class, arguments=choice.flags(f"scenes_{method}", folder))[0]


def fine_tune(method: str, training: DualEncoderArguments, base: str) -> None:
    """Train a dual encoder on generated scenes, and save it in the output folder of its recipe.

    Args:
        method (`str`): One of `METHODS`.
        training (`DualEncoderArguments`): Arguments of its trainer.
        base (`str`): Folder or Hub id of the model to start from.
    """
    model_class, trainer_class, _ = METHODS[method]
    scenes = int(training.max_steps * training.train_batch_size)
    trainer = trainer_class(
        model=load_model(base, model_class),
        args=training,
        train_dataset=SceneDataset(scenes, num_negatives=training.num_negatives, seed=training.seed),
        processing_class=load_processor(base),
    )
    train_and_save(trainer)


def dual_encoder_benchmarks(items: int) -> list[Benchmark]:
    """Make the benchmarks of the generated world for dual encoders."""
    return [SceneComposition(items), SceneZeroShot(), SceneRetrieval(items)]


def evaluate_saved(folder: str | Path, benchmarks: Sequence[Benchmark], name: str, **options: Any) -> Results:
    """Evaluate a model as its users load it, in the data type in which it was saved.

    Args:
        folder (`str` or `Path`): Folder or Hub id of the model.
        benchmarks (sequence of `Benchmark`): The benchmarks.
        name (`str`): Name of the model in results.
        options: Further arguments of `evaluate_model`.
    """
    return evaluate_model(load_model(folder, dtype="auto"), load_processor(folder), benchmarks, name=name, **options)


def document(folder: Path, method: str, results: Results, recipe: Mapping[str, Any], **card: Any) -> None:
    """Write the results of a saved model and its card beside the weights, and check the card.

    Args:
        folder (`Path`): Folder of the weights.
        method, results, recipe, card: As for `render_card`.

    Raises:
        ValueError: If the Hub would refuse the card, or its numbers are not those of the results.
    """
    results.to_json(folder / RESULTS)
    write_card(folder, method, results, recipe, **card)
    findings = check_card(folder, ".")
    if findings:
        raise ValueError("\n  ".join([f"{folder}: the card is wrong", *map(str, findings)]))
