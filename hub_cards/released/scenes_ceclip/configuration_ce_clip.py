"""Configuration of CE-CLIP's dual encoder."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CLIPConfig


@strict
class CECLIPConfig(CLIPConfig):
    """Configuration of a [`CECLIPModel`]: the fields of CLIP's, and the number of ranking thresholds.

    Args:
        num_negatives (`int`): Kinds of negative caption, each with an adaptive threshold of its own, >= 0.

    Example:
        >>> from compalign.modeling import CECLIPConfig
        >>> CECLIPConfig(num_negatives=3).num_negatives
        3
    """

    model_type = "ce_clip"

    num_negatives: int = 4

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a saved configuration; CLIP's is a supported start and must not warn of another model type."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == CLIPConfig.model_type:
            config["model_type"] = cls.model_type
        return config, unused
