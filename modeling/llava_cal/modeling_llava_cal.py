"""LLaVA and LLaVA-NeXT trained with CAL: the plain models, so that checkpoints go both ways unchanged.

CAL weights the tokens of the training loss and adds nothing to the model. Parameters, forward and `generate` are those
of transformers, and the plain classes read the checkpoints of these.
"""

from transformers import LlavaForConditionalGeneration, LlavaModel, LlavaNextForConditionalGeneration, LlavaNextModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping

from .configuration_llava_cal import LlavaCALConfig, LlavaNextCALConfig


class LlavaCALModel(LlavaModel):
    """LLaVA without its language head: `AutoModel` for a checkpoint of [`LlavaCALForConditionalGeneration`]."""

    config: LlavaCALConfig


class LlavaCALForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA for training with CAL.

    Reference:
        CAL, https://huggingface.co/papers/2405.17871.
    """

    config: LlavaCALConfig


class LlavaNextCALModel(LlavaNextModel):
    """LLaVA-NeXT without its language head; see [`LlavaCALModel`]."""

    config: LlavaNextCALConfig


class LlavaNextCALForConditionalGeneration(LlavaNextForConditionalGeneration):
    """LLaVA-NeXT for training with CAL; see [`LlavaCALForConditionalGeneration`]."""

    config: LlavaNextCALConfig


# transformers looks up the renames of old checkpoints by model type and class name; register ours.
for _ours, _plain in (
    ("llava_cal", "llava"),
    ("LlavaCALModel", "LlavaModel"),
    ("llava_next_cal", "llava_next"),
    ("LlavaNextCALModel", "LlavaNextModel"),
):
    register_checkpoint_conversion_mapping(_ours, get_checkpoint_conversion_mapping(_plain), overwrite=True)
