"""Train any image-text-to-text model with CAL; `--cal false` is plain fine-tuning on the same rows.

LLaVA-1.5 7B, instruction stage, eight GPUs:

    accelerate launch --num_processes 8 trainers/train_cal.py --config scripts/recipes/cal_llava15_7b_finetune.yaml \
        --deepspeed scripts/deepspeed/zero3.json

Small enough for a CPU, on the generated world:

    accelerate launch trainers/train_cal.py --config scripts/recipes/cal_scenes.yaml
"""

from compalign.trainers import CALArguments
from compalign.trainers.conversation_entry import (
    ConversationDataArguments,
    ConversationModelArguments,
    make_cal_trainer,
)
from compalign.trainers.entry import train_and_save
from compalign.trainers.recipe import parse_recipe


def main() -> None:
    """Read the recipe, train, save."""
    recipe = parse_recipe(ConversationModelArguments, ConversationDataArguments, CALArguments, description=__doc__)
    train_and_save(make_cal_trainer(*recipe))


if __name__ == "__main__":
    main()
