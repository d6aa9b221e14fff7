r"""Train CE-CLIP, starting from any CLIP checkpoint.

On COCO, with CE-CLIP's typed negatives (relation, adjective, noun, verb), one GPU:

    accelerate launch trainers/train_ceclip.py --config scripts/recipes/ceclip_coco.yaml

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_ceclip.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/ceclip --per_device_train_batch_size 8 --max_steps 20 --use_cpu
"""

import sys
from collections.abc import Sequence

from compalign.modeling import CECLIPModel
from compalign.trainers import CECLIPArguments, CECLIPTrainer
from compalign.trainers.launch.dual_encoders import DataArguments, ModelArguments, make_dual_encoder_trainer
from compalign.trainers.launch.recipe import exit_status, parse_recipe
from compalign.trainers.launch.run import train_and_save


def main(arguments: Sequence[str] | None = None, command: str = "train_ceclip.py") -> None:
    """Read the recipe, train, save."""
    kinds = ModelArguments, DataArguments, CECLIPArguments
    start, data, args = parse_recipe(*kinds, arguments=arguments, description=__doc__, command=command)
    thresholds = args.num_negatives  # one per negative
    trainer = make_dual_encoder_trainer(
        CECLIPTrainer, CECLIPModel, start, data, args, typed=True, num_negatives=thresholds
    )
    train_and_save(trainer)


if __name__ == "__main__":
    sys.exit(exit_status("train_ceclip.py", main))
