"""The models: importing this package makes their configurations known to transformers' Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoModelForPreTraining,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
)
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from .clip import CECLIPConfig, CECLIPModel, DeGLACLIPConfig, DeGLACLIPModel
from .comalign import ComAlignConfig, ComAlignModel, ComAlignProcessor
from .kinds import Kind, kind_of, load_model, load_processor
from .llava_cal import (
    LlavaCALConfig,
    LlavaCALForConditionalGeneration,
    LlavaCALModel,
    LlavaNextCALConfig,
    LlavaNextCALForConditionalGeneration,
    LlavaNextCALModel,
)

for _config in (DeGLACLIPConfig, CECLIPConfig, ComAlignConfig, LlavaCALConfig, LlavaNextCALConfig):
    AutoConfig.register(_config.model_type, _config)
    _config.register_for_auto_class()

_DUAL_ENCODER = (AutoModel, AutoModelForZeroShotImageClassification)
_IMAGE_TEXT_TO_TEXT = (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForPreTraining)
for _model, _auto_classes in (
    (DeGLACLIPModel, _DUAL_ENCODER),
    (CECLIPModel, _DUAL_ENCODER),
    (ComAlignModel, (AutoModel,)),
    (LlavaCALModel, (AutoModel,)),
    (LlavaNextCALModel, (AutoModel,)),
    (LlavaCALForConditionalGeneration, _IMAGE_TEXT_TO_TEXT),
    (LlavaNextCALForConditionalGeneration, _IMAGE_TEXT_TO_TEXT),
):
    for _auto_class in _auto_classes:
        _auto_class.register(_model.config_class, _model)
    # save_pretrained then copies the code beside the weights, for machines without this package
    _model.register_for_auto_class(_auto_classes[0])

AutoProcessor.register(ComAlignConfig, ComAlignProcessor)
ComAlignProcessor.register_for_auto_class()

for _config, _processor in ((LlavaCALConfig, LlavaProcessor), (LlavaNextCALConfig, LlavaNextProcessor)):
    AutoProcessor.register(_config, _processor)
    # As beside a plain LLaVA, tokenizer.json counts and not the class named with it, which would split text otherwise.
    TOKENIZER_MAPPING_NAMES[_config.model_type] = TOKENIZER_MAPPING_NAMES["llava"]

__all__ = [
    "CECLIPConfig",
    "CECLIPModel",
    "ComAlignConfig",
    "ComAlignModel",
    "ComAlignProcessor",
    "DeGLACLIPConfig",
    "DeGLACLIPModel",
    "Kind",
    "LlavaCALConfig",
    "LlavaCALForConditionalGeneration",
    "LlavaNextCALConfig",
    "LlavaNextCALForConditionalGeneration",
    "kind_of",
    "load_model",
    "load_processor",
]
