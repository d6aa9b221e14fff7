"""The small base model, fine-tuned with each method for dual encoders and under ComAlign's heads, side by side."""

from pathlib import Path

from transformers.utils import logging

from ...evaluation import Results
from ..evaluate import report
from .choice import TrainingChoice
from .fine_tuning import METHODS, fine_tune, training_arguments
from .heads import evaluate_heads, heads_recipe, recipe_values, relative_backbone, train_heads
from .saved import document, dual_encoder_benchmarks, evaluate_saved


def compare_methods(choice: TrainingChoice, folder: Path) -> list[Results]:
    """Evaluate the base model, train each method from it, evaluate and document each, and report all.

    Args:
        choice (`TrainingChoice`): Base model and amount of work.
        folder (`Path`): Gets one folder per method, the table, the chart and the page.

    Returns:
        `list[Results]`: of the base model, then of each method.
    """
    logging.set_verbosity_error()
    benchmarks = dual_encoder_benchmarks(choice.items)
    results = [evaluate_saved(choice.base, benchmarks, "base")]
    for method in METHODS:
        print(f"\n{method}: fine-tuning", flush=True)
        training = training_arguments(method, folder / method, choice)
        fine_tune(method, training, choice.base)
        results.append(evaluate_saved(folder / method, benchmarks, method))
        document(
            folder / method,
            method,
            results[-1],
            training.to_dict(),
            base_results=results[0],
            base_model=choice.base_model,
        )
    print("\ncomalign: training heads", flush=True)
    recipe = heads_recipe(folder / "comalign", choice)
    train_heads(recipe, relative_backbone(choice.base, folder / "comalign"))
    results.append(evaluate_heads(folder / "comalign", benchmarks, "comalign"))
    document(
        folder / "comalign",
        "comalign",
        results[-1],
        recipe_values(recipe),
        base_results=results[0],
        base_model=choice.base_model,
    )
    print()
    report(results, folder, benchmarks)
    return results
