"""Train ComAlign's heads over any frozen dual encoder.

On images and captions taken apart by `compalign components`:

    accelerate launch trainers/train_comalign.py --config scripts/recipes/comalign_coco.yaml

Small enough for a CPU, on the generated world and the small base model:

    python trainers/train_comalign.py --config scripts/recipes/comalign_scenes.yaml
"""

from compalign.trainers import ComAlignArguments
from compalign.trainers.comalign_entry import (
    ComponentDataArguments,
    ComponentModelArguments,
    make_comalign_trainer,
)
from compalign.trainers.entry import train_and_save
from compalign.trainers.recipe import parse_recipe


def main() -> None:
    """Read the recipe, train, save."""
    recipe = parse_recipe(ComponentModelArguments, ComponentDataArguments, ComAlignArguments, description=__doc__)
    train_and_save(make_comalign_trainer(*recipe))


if __name__ == "__main__":
    main()
