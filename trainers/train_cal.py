r"""Train any image-text-to-text model with CAL; `--no_cal` is plain fine-tuning on the same rows.

LLaVA-1.5 7B, instruction stage, eight GPUs:

    accelerate launch --num_processes 8 trainers/train_cal.py --config scripts/recipes/cal_llava15_7b_finetune.yaml \
        --deepspeed scripts/deepspeed/zero3.json

Small enough for a CPU, on the generated world:

    accelerate launch trainers/train_cal.py --config scripts/recipes/cal_scenes.yaml
"""

import sys
from collections.abc import Sequence

from compalign.trainers import CALArguments
from compalign.trainers.launch.cal import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from compalign.trainers.launch.recipe import exit_status, parse_recipe
from compalign.trainers.launch.run import train_and_save


def main(arguments: Sequence[str] | None = None, command: str = "train_cal.py") -> None:
    """Read the recipe, train, save."""
    kinds = ConversationModelArguments, ConversationDataArguments, CALArguments
    recipe = parse_recipe(*kinds, arguments=arguments, description=__doc__, command=command)
    train_and_save(make_cal_trainer(*recipe))


if __name__ == "__main__":
    sys.exit(exit_status("train_cal.py", main))
