"""Train NegCLIP on any CLIP-like model.

On COCO with NegCLIP's own file of hard captions and neighbours, one GPU:

    accelerate launch trainers/train_negclip.py --config scripts/recipes/negclip_coco.yaml

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_negclip.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/negclip --per_device_train_batch_size 8 --max_steps 20 --use_cpu true
"""

from transformers import AutoModel

from compalign.trainers import NegCLIPArguments, NegCLIPTrainer
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
    start, data, args = parse_recipe(ModelArguments, DataArguments, NegCLIPArguments, description=__doc__)
    trainer = NegCLIPTrainer(
        model=load_model(AutoModel, start, args.seed),
        args=args,
        train_dataset=load_rows(data, args),
        processing_class=load_processor(start),
    )
    train_and_save(trainer)


if __name__ == "__main__":
    main()
