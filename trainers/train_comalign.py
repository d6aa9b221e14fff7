"""Train ComAlign's heads over any frozen dual encoder.

On images and captions taken apart by `compalign components`:

    accelerate launch trainers/train_comalign.py --config scripts/recipes/comalign_coco.yaml

Small enough for a CPU, on the generated world and the small base model:

    python trainers/train_comalign.py --config scripts/recipes/comalign_scenes.yaml
"""

import sys
from collections.abc import Sequence

from compalign.trainers import ComAlignArguments
from compalign.trainers.launch.comalign import ComponentDataArguments, ComponentModelArguments, make_comalign_trainer
from compalign.trainers.launch.recipe import exit_status, parse_recipe
from compalign.trainers.launch.run import train_and_save


def main(arguments: Sequence[str] | None = None, command: str = "train_comalign.py") -> None:
    """Read the recipe, train, save."""
    kinds = ComponentModelArguments, ComponentDataArguments, ComAlignArguments
    recipe = parse_recipe(*kinds, arguments=arguments, description=__doc__, command=command)
    train_and_save(make_comalign_trainer(*recipe))


if __name__ == "__main__":
    sys.exit(exit_status("train_comalign.py", main))
