"""What kind of model a checkpoint holds, by its configuration, and where models go."""

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
    PreTrainedConfig,
)

from ..modeling import ComAlignConfig

# Dual encoders whose similarities have a temperature, or none, in place of the logit scale.
WITHOUT_LOGIT_SCALE = frozenset({"align", "tipsv2", "videoprism"})


def is_comalign(config: PreTrainedConfig) -> bool:
    """Whether these are ComAlign's heads."""
    return isinstance(config, ComAlignConfig)


def is_image_text_to_text(config: PreTrainedConfig) -> bool:
    """Whether this is a model that writes about images."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def is_dual_encoder(config: PreTrainedConfig) -> bool:
    """Whether this is a model with an image and a text tower, and a logit scale."""
    mapped = type(config) in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING
    return mapped and config.model_type not in WITHOUT_LOGIT_SCALE


def dual_encoder_types() -> list[str]:
    """The model types of dual encoders, sorted."""
    return sorted({kind.model_type for kind in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING} - WITHOUT_LOGIT_SCALE)


def is_detector(config: PreTrainedConfig) -> bool:
    """Whether this finds objects, of its own classes or of given phrases."""
    return any(
        type(config) in mapping
        for mapping in (MODEL_FOR_OBJECT_DETECTION_MAPPING, MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING)
    )


def device() -> torch.device:
    """Where models go: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
