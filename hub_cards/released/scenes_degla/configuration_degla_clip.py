"""Configuration of DeGLA's dual encoder."""

from typing import Any

from transformers import CLIPConfig


class DeGLACLIPConfig(CLIPConfig):
    """Configuration of a [`DeGLACLIPModel`]: every field is CLIP's.

    Example:
        >>> from compalign.modeling import DeGLACLIPConfig
        >>> DeGLACLIPConfig(projection_dim=512).text_config.max_position_embeddings
        77
    """

    model_type = "degla_clip"

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a saved configuration; CLIP's is a supported start and must not warn of another model type."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == CLIPConfig.model_type:
            config["model_type"] = cls.model_type
        return config, unused
