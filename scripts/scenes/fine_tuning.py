"""The small base model fine-tuned on generated scenes with NegCLIP, CE-CLIP or DeGLA."""

from pathlib import Path
from typing import Any

from transformers import CLIPModel

from ...data.scenes import SceneDataset
from ...modeling import CECLIPModel, DeGLACLIPModel, load_model, load_processor
from ...trainers import CECLIPArguments, CECLIPTrainer, DeGLAArguments, DeGLATrainer, NegCLIPArguments, NegCLIPTrainer
from ...trainers.dual_encoder import DualEncoderArguments
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from .choice import TrainingChoice

# Chosen on the validation split. One object has nothing to exchange; other objects and colours in a caption are what
# the base model tells apart already.
OBJECTS = 2
KINDS = ("swap_object", "swap_attribute", "replace_attribute", "replace_relation")
METHODS: dict[str, tuple[Any, Any, Any]] = {
    "negclip": (CLIPModel, NegCLIPTrainer, NegCLIPArguments),
    "ceclip": (CECLIPModel, CECLIPTrainer, CECLIPArguments),
    "degla": (DeGLACLIPModel, DeGLATrainer, DeGLAArguments),
}


def training_arguments(method: str, folder: Path, choice: TrainingChoice) -> DualEncoderArguments:
    """Read the recipe of a method for dual encoders, with the choices on top."""
    arguments_class = METHODS[method][2]
    return parse_recipe(arguments_class, arguments=choice.flags(f"scenes_{method}", folder))[0]


def fine_tune(method: str, training: DualEncoderArguments, base: str) -> None:
    """Train a dual encoder on generated scenes, and save it in the output folder of its recipe.

    Args:
        method (`str`): One of `METHODS`.
        training (`DualEncoderArguments`): Arguments of its trainer.
        base (`str`): Folder or Hub id of the model to start from.
    """
    model_class, trainer_class, _ = METHODS[method]
    scenes = int(training.max_steps * training.train_batch_size)
    trainer = trainer_class(
        model=load_model(base, model_class),
        args=training,
        train_dataset=SceneDataset(
            scenes, num_negatives=training.num_negatives, seed=training.seed, num_objects=OBJECTS, kinds=KINDS
        ),
        processing_class=load_processor(base),
    )
    train_and_save(trainer)
