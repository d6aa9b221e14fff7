"""DeGLA's dual encoder."""

from .configuration_degla_clip import DeGLACLIPConfig
from .modeling_degla_clip import DeGLACLIPModel, DeGLACLIPOutput

__all__ = ["DeGLACLIPConfig", "DeGLACLIPModel", "DeGLACLIPOutput"]
