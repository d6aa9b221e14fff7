"""ComAlign's heads over the small base model, trained on generated scenes and evaluated with their true regions."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluation import Benchmark, Results
from ...trainers import ComAlignArguments
from ...trainers.launch.comalign import ComponentDataArguments, ComponentModelArguments, make_comalign_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from ..scoring.regions import regions_of
from .choice import TrainingChoice
from .saved import evaluate_saved

Recipe = tuple[ComponentModelArguments, ComponentDataArguments, ComAlignArguments]
TRUE_REGIONS = "given the true regions of each scene; what a detector misses or invents is not in these scores"


def heads_recipe(folder: Path, choice: TrainingChoice) -> Recipe:
    """Read the recipe of the heads, with the choices on top."""
    return parse_recipe(
        ComponentModelArguments,
        ComponentDataArguments,
        ComAlignArguments,
        arguments=[*choice.flags("comalign_scenes", folder), "--backbone", choice.base],
    )


def train_heads(recipe: Recipe, backbone: str) -> None:
    """Train the heads, and save them in the output folder of their recipe.

    Args:
        recipe (`Recipe`): From `heads_recipe`.
        backbone (`str`): Folder or Hub id under which the saved heads look for their encoder.
    """
    start, data, training = recipe
    with tempfile.TemporaryDirectory() as data.features:
        trainer = make_comalign_trainer(start, data, training)
        trainer.model.config.backbone = backbone
        train_and_save(trainer)


def relative_backbone(base: str, folder: Path) -> str:
    """Name a base model as seen from the heads' folder, so that both can be moved or cloned together."""
    return os.path.relpath(base, folder) if Path(base).exists() else base


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Lay a recipe out for a card."""
    start, data, training = recipe
    return {**vars(start), **vars(data), **training.to_dict()}


def evaluate_heads(folder: Path, benchmarks: Sequence[Benchmark], name: str) -> Results:
    """Evaluate saved heads with the true regions of the scenes."""
    regions, _ = regions_of(benchmarks)
    results = evaluate_saved(folder, benchmarks, name, regions=regions)
    results.notes.append(TRUE_REGIONS)
    return results
