"""Train DeGLA, starting from any CLIP checkpoint.

On COCO with DeGLA's generated negatives, eight GPUs of 32 rows each:

    accelerate launch --num_processes 8 trainers/train_degla.py --config scripts/recipes/degla_coco.yaml \
        --per_device_train_batch_size 32

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_degla.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/degla --per_device_train_batch_size 8 --max_steps 20 --use_cpu true
"""

from compalign.modeling import DeGLACLIPModel
from compalign.trainers import DeGLAArguments, DeGLATrainer
from compalign.trainers.entry import (
    DataArguments,
    ModelArguments,
    load_model,
    load_processor,
    load_rows,
    train_and_save,
)
from compalign.trainers.recipe import parse_recipe


def main() -> None:
    """Read the recipe, train, save."""
    start, data, args = parse_recipe(ModelArguments, DataArguments, DeGLAArguments, description=__doc__)
    trainer = DeGLATrainer(
        model=load_model(DeGLACLIPModel, start, args.seed),
        args=args,
        train_dataset=load_rows(data, args),
        processing_class=load_processor(start),
    )
    train_and_save(trainer)


if __name__ == "__main__":
    main()
