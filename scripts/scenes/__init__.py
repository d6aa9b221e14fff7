"""Make the small models of the generated world that come with compalign, and compare methods on it.

    compalign scenes base --config scripts/recipes/scenes_base.yaml --output_dir runs/base
    compalign scenes model --model degla --output_dir runs/scenes_degla
    compalign scenes compare_cal --config scripts/recipes/cal_scenes.yaml --output_dir runs/comparison
    compalign scenes compare_comalign --config scripts/recipes/comalign_scenes.yaml --output_dir runs/comparison

Scenes are generated on the spot: nothing is downloaded.
"""

import importlib
import sys

from ..cli import HELP, listing, unknown

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
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in HELP:
        print(f"usage: compalign scenes COMMAND [--config recipe.yaml] [--flag value ...]\n\n{__doc__}")
        print(f"commands:\n{listing(COMMANDS)}\n\n`compalign scenes COMMAND --help` explains the flags of a command.")
        raise SystemExit(0)
    if command not in COMMANDS:
        raise ValueError(unknown("command", command, COMMANDS))
    importlib.import_module(f"compalign.scripts.scenes.{MODULES[command]}").main(rest)
