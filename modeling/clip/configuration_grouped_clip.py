"""Configuration of the dual encoders that start from a plain CLIP."""

from typing import Any

from transformers import CLIPConfig


class GroupedCLIPConfig(CLIPConfig):
    """CLIP's configuration, also read from the checkpoint of a plain CLIP; see [`GroupedCLIPModel`]."""

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a saved configuration. Starting from a plain CLIP is supported and must not warn about its type."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == CLIPConfig.model_type:
            config["model_type"] = cls.model_type
        return config, unused
