"""CE-CLIP's dual encoder."""

from .configuration_ce_clip import CECLIPConfig
from .modeling_ce_clip import CECLIPModel, CECLIPOutput

__all__ = ["CECLIPConfig", "CECLIPModel", "CECLIPOutput"]
