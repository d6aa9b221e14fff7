"""Train CE-CLIP, starting from any CLIP checkpoint.

On COCO with CE-CLIP's typed negatives (relation, adjective, noun, verb), one GPU:

    accelerate launch trainers/train_ceclip.py --config scripts/recipes/ceclip_coco.yaml

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_ceclip.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/ceclip --per_device_train_batch_size 8 --max_steps 20 --use_cpu true
"""

from compalign.modeling import CECLIPModel
from compalign.trainers import CECLIPArguments, CECLIPTrainer
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
    start, data, args = parse_recipe(ModelArguments, DataArguments, CECLIPArguments, description=__doc__)
    trainer = CECLIPTrainer(
        model=load_model(CECLIPModel, start, args.seed, num_negatives=args.num_negatives),  # one threshold each
        args=args,
        train_dataset=load_rows(data, args, typed=True),
        processing_class=load_processor(start),
    )
    train_and_save(trainer)


if __name__ == "__main__":
    main()
