"""The dual encoders of CE-CLIP and DeGLA: CLIP's weights and one forward for images, captions and negatives."""

from .configuration_ce_clip import CECLIPConfig
from .configuration_degla_clip import DeGLACLIPConfig
from .modeling_ce_clip import CECLIPModel, CECLIPOutput
from .modeling_degla_clip import DeGLACLIPModel
from .modeling_grouped_clip import GroupedCLIPOutput

__all__ = ["CECLIPConfig", "CECLIPModel", "CECLIPOutput", "DeGLACLIPConfig", "DeGLACLIPModel", "GroupedCLIPOutput"]
