"""Make the small models of the generated world that come with compalign, and compare methods on it.

    compalign scenes base --config scripts/recipes/scenes_base.yaml --output_dir runs/base
    compalign scenes model --model degla --output_dir runs/scenes_degla
    compalign scenes compare_cal --config scripts/recipes/cal_scenes_comparison.yaml --output_dir runs/comparison
    compalign scenes compare_comalign --config scripts/recipes/comalign_scenes.yaml --output_dir runs/comparison

Scenes are generated on the spot: nothing is downloaded.
"""

import importlib

from ..cli import choose

COMMANDS = {
    "base": "train the small base model from scratch",
    "model": "make one of the small models: train, evaluate, write its card",
    "compare_cal": "compare CAL with plain fine-tuning, on clean and on noisy conversations",
    "compare_comalign": "compare ComAlign's heads with their frozen encoder",
}
MODULES = {name: name for name in COMMANDS} | {"model": "small_models"}


def main(arguments: list[str] | None = None) -> None:
    """Hand the rest of the line over to a command of this room.

    Raises:
        ValueError: If there is no such command, or as the command does.
    """
    command, rest = choose("compalign scenes", "command", COMMANDS, __doc__, arguments)
    importlib.import_module(f"compalign.scripts.scenes.{MODULES[command]}").main(rest)
