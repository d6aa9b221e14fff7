"""Configuration of CE-CLIP's dual encoder."""

from huggingface_hub.dataclasses import strict

from .configuration_grouped_clip import GroupedCLIPConfig


@strict
class CECLIPConfig(GroupedCLIPConfig):
    """Configuration of a [`CECLIPModel`]: CLIP's fields and the number of ranking thresholds.

    Args:
        num_negatives (`int`): Kinds of negative caption, each with its own adaptive threshold, >= 0.

    Example:
        >>> from compalign.modeling import CECLIPConfig
        >>> CECLIPConfig(num_negatives=3).num_negatives
        3
    """

    model_type = "ce_clip"

    num_negatives: int = 4
