"""DeGLA's dual encoder: CLIP's weights and nothing else."""

from .configuration_degla_clip import DeGLACLIPConfig
from .modeling_grouped_clip import GroupedCLIPModel


class DeGLACLIPModel(GroupedCLIPModel):
    """CLIP with CLIP's parameters only, so that checkpoints go both ways unchanged.

    Reference:
        DeGLA, https://huggingface.co/papers/2504.16801.
    """

    config: DeGLACLIPConfig
