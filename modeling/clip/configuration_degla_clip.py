"""Configuration of DeGLA's dual encoder."""

from .configuration_grouped_clip import GroupedCLIPConfig


class DeGLACLIPConfig(GroupedCLIPConfig):
    """Configuration of a [`DeGLACLIPModel`]: every field is CLIP's.

    Example:
        >>> from compalign.modeling import DeGLACLIPConfig
        >>> DeGLACLIPConfig(projection_dim=512).text_config.max_position_embeddings
        77
    """

    model_type = "degla_clip"
