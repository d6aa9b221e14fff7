"""The models: importing this package makes their configurations known to transformers' Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForZeroShotImageClassification

from .ce_clip import CECLIPConfig, CECLIPModel
from .degla_clip import DeGLACLIPConfig, DeGLACLIPModel

for _config, _model in ((DeGLACLIPConfig, DeGLACLIPModel), (CECLIPConfig, CECLIPModel)):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
    AutoModelForZeroShotImageClassification.register(_config, _model)
    # save_pretrained then copies the code beside the weights, for machines without this package
    _config.register_for_auto_class()
    _model.register_for_auto_class()

__all__ = ["CECLIPConfig", "CECLIPModel", "DeGLACLIPConfig", "DeGLACLIPModel"]
