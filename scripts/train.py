"""Train a model with one of the five methods.

    compalign train degla --config scripts/recipes/degla_coco.yaml --output_dir runs/degla
    compalign train degla --help

This starts one process, and is the same as `python trainers/train_degla.py` in the source tree. A launcher starts one
process per GPU, from the source tree or, where only the package is installed, from the module of the command:

    accelerate launch --num_processes 8 trainers/train_degla.py --config degla.yaml
    accelerate launch --num_processes 8 -m compalign.scripts.cli train degla --config degla.yaml
    torchrun --nproc_per_node 8 -m compalign.scripts.cli train degla --config degla.yaml
"""

import importlib

from .cli import choose

METHODS = {
    "negclip": "dual encoder: contrastive loss with hard negative captions and images",
    "ceclip": "dual encoder: contrast among captions, and a margin that adapts to each type of negative",
    "degla": "dual encoder: self-distillation, image-grounded and text-grounded contrast",
    "comalign": "light heads on a frozen dual encoder that align entities and relations",
    "cal": "image-text-to-text model: each answer token weighted by how much the image raises its logit",
}


def main(arguments: list[str] | None = None) -> None:
    """Hand the rest of the line over to the method's own command.

    Raises:
        ValueError: If there is no such method, or as its command does.
    """
    method, rest = choose("compalign train", "method", METHODS, __doc__, arguments)
    module = importlib.import_module(f"compalign.trainers.train_{method}")
    module.main(rest, command=f"compalign train {method}")
