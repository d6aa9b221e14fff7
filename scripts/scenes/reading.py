"""The small language model learns to read before it sees.

A new language model, shown an image and a question at once, learns which answers are common and stops there. One that
has learned to find an answer in a description soon finds it in an image too, as LLaVA's language model does.
"""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from ...trainers import CALArguments
from ...trainers.launch.cal import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save

RECIPE = files("compalign.scripts") / "recipes" / "cal_scenes_reading.yaml"


def read_first(
    start: ConversationModelArguments, folder: Path, max_steps: int | None = None
) -> ConversationModelArguments:
    """Let the language model of a new small LLaVA learn to read; a pretrained one stays as it is.

    Args:
        start (`ConversationModelArguments`): Parts of the LLaVA.
        folder (`Path`): Folder of the LLaVA that reads. A finished run in it is used as it is.
        max_steps (`int`, *optional*): Training steps. Default: as the recipe says.

    Returns:
        `ConversationModelArguments`: The start from that folder.
    """
    if start.vision_tower is None or start.language_model is not None:
        return start
    parts = ["--vision_tower", start.vision_tower, "--language_layers", str(start.language_layers)]
    steps = [] if max_steps is None else ["--max_steps", str(max_steps)]
    recipe = parse_recipe(
        ConversationModelArguments,
        ConversationDataArguments,
        CALArguments,
        arguments=["--config", str(RECIPE), *parts, *steps, "--output_dir", str(folder)],
    )
    train_and_save(make_cal_trainer(*recipe))
    return replace(start, model=str(folder), vision_tower=None)
