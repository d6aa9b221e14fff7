r"""Train NegCLIP on any CLIP-like model.

On COCO, with NegCLIP's own file of hard captions and neighbours, one GPU:

    accelerate launch trainers/train_negclip.py --config scripts/recipes/negclip_coco.yaml

Small enough for a CPU, with negatives proposed by rule:

    python trainers/train_negclip.py --model CLIP_FOLDER --train captions.jsonl --negatives rules \
        --output_dir runs/negclip --per_device_train_batch_size 8 --max_steps 20 --use_cpu
"""

import sys
from collections.abc import Sequence

from transformers import AutoModel

from compalign.trainers import NegCLIPArguments, NegCLIPTrainer
from compalign.trainers.launch.dual_encoders import DataArguments, ModelArguments, make_dual_encoder_trainer
from compalign.trainers.launch.recipe import exit_status, parse_recipe
from compalign.trainers.launch.run import train_and_save


def main(arguments: Sequence[str] | None = None, command: str = "train_negclip.py") -> None:
    """Read the recipe, train, save."""
    kinds = ModelArguments, DataArguments, NegCLIPArguments
    recipe = parse_recipe(*kinds, arguments=arguments, description=__doc__, command=command)
    train_and_save(make_dual_encoder_trainer(NegCLIPTrainer, AutoModel, *recipe))


if __name__ == "__main__":
    sys.exit(exit_status("train_negclip.py", main))
