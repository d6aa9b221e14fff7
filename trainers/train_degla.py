r"""Train DeGLA, starting from any CLIP checkpoint.

On COCO, with DeGLA's generated negatives, eight GPUs of 32 rows each:

    accelerate launch --num_processes 8 trainers/train_degla.py --config scripts/recipes/degla_coco.yaml \
        --per_device_train_batch_size 32

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_degla.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/degla --per_device_train_batch_size 8 --max_steps 20 --use_cpu
"""

import sys
from collections.abc import Sequence

from compalign.modeling import DeGLACLIPModel
from compalign.trainers import DeGLAArguments, DeGLATrainer
from compalign.trainers.launch.dual_encoders import DataArguments, ModelArguments, make_dual_encoder_trainer
from compalign.trainers.launch.recipe import exit_status, parse_recipe
from compalign.trainers.launch.run import train_and_save


def main(arguments: Sequence[str] | None = None, command: str = "train_degla.py") -> None:
    """Read the recipe, train, save."""
    kinds = ModelArguments, DataArguments, DeGLAArguments
    recipe = parse_recipe(*kinds, arguments=arguments, description=__doc__, command=command)
    train_and_save(make_dual_encoder_trainer(DeGLATrainer, DeGLACLIPModel, *recipe))


if __name__ == "__main__":
    sys.exit(exit_status("train_degla.py", main))
