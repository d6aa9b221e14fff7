"""A small model as its users load it: evaluated from its folder, and documented there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluation import Benchmark, Results, SceneComposition, SceneRetrieval, SceneZeroShot, evaluate_model
from ...hub_cards import write_card
from ...hub_cards.verify import RESULTS, check_card
from ...modeling import load_model, load_processor

ONLY_SYMBOLS = "It knows only the generated symbols, in plain English: on photographs its scores mean nothing."


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
    write_card(folder, method, results, recipe, language="en", limits=[ONLY_SYMBOLS], **card)
    findings = check_card(folder, ".")
    if findings:
        raise ValueError("\n  ".join([f"{folder}: the card is wrong", *map(str, findings)]))
