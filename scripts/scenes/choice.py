"""The base model and the amount of work of the demo and of the small models; importing them loads nothing heavy."""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

RECIPES = files("compalign.scripts") / "recipes"
BASE = files("compalign.hub_cards") / "released" / "scenes_base"
CHART = "chart.png"
BASE_ON_HUB = "compalign/scenes_base"


@dataclass
class TrainingChoice:
    """The model to start from and the amount of work; the recipes hold everything else."""

    base: str = field(
        default=str(BASE), metadata={"help": "Base model to start from, a folder or a Hub id.", "group": "model"}
    )
    max_steps: int | None = field(
        default=None, metadata={"help": "Training steps per model; default: as the recipe says.", "group": "training"}
    )
    items: int = field(
        default=300,
        metadata={
            "help": "Test items per kind of negative, retrieval pairs, and scenes asked about; an even number.",
            "group": "data",
        },
    )
    seed: int = field(
        default=0,
        metadata={
            "help": "Seed of the training data and its order; the test items stay the same.",
            "group": "training",
        },
    )

    @property
    def base_model(self) -> str | None:
        """The Hub id of the base model, as cards name it; None for a folder that is on no Hub."""
        if self.base == str(BASE):
            return BASE_ON_HUB
        return None if Path(self.base).exists() else self.base

    def flags(self, name: str, folder: Path) -> list[str]:
        """Write a recipe of `scripts/recipes` as a command line, with these choices on top."""
        steps = [] if self.max_steps is None else ["--max_steps", str(self.max_steps)]
        # The folder is the command's own: what an earlier call with other choices left in it is replaced.
        chosen = ["--output_dir", str(folder), "--overwrite", "true", "--seed", str(self.seed), *steps]
        return ["--config", str(RECIPES / f"{name}.yaml"), *chosen]
