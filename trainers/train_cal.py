"""Train any image-text-to-text model with CAL; `--cal false` is plain fine-tuning on the same rows.

LLaVA-1.5 7B, instruction stage, eight GPUs:

    accelerate launch --num_processes 8 trainers/train_cal.py --config scripts/recipes/cal_llava15_7b_finetune.yaml \
        --deepspeed scripts/deepspeed/zero3.json

Small enough for a CPU, on the generated world:

    accelerate launch trainers/train_cal.py --config scripts/recipes/cal_scenes.yaml
"""

from compalign.trainers import CALArguments, CALTrainer
from compalign.trainers.conversation_entry import (
    ConversationDataArguments,
    ConversationModelArguments,
    load_conversation_rows,
    load_conversational_model,
    load_conversational_processor,
)
from compalign.trainers.entry import train_and_save
from compalign.trainers.recipe import parse_recipe


def main() -> None:
    """Read the recipe, train, save."""
    start, data, args = parse_recipe(
        ConversationModelArguments, ConversationDataArguments, CALArguments, description=__doc__
    )
    processor = load_conversational_processor(start)
    trainer = CALTrainer(
        model=load_conversational_model(start, args, processor),
        args=args,
        train_dataset=load_conversation_rows(data, args),
        processing_class=processor,
    )
    train_and_save(trainer)


if __name__ == "__main__":
    main()
