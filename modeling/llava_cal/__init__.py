"""LLaVA and LLaVA-NeXT trained with CAL."""

from .configuration_llava_cal import LlavaCALConfig, LlavaNextCALConfig
from .modeling_llava_cal import (
    LlavaCALForConditionalGeneration,
    LlavaCALModel,
    LlavaNextCALForConditionalGeneration,
    LlavaNextCALModel,
)

__all__ = [
    "LlavaCALConfig",
    "LlavaCALForConditionalGeneration",
    "LlavaCALModel",
    "LlavaNextCALConfig",
    "LlavaNextCALForConditionalGeneration",
    "LlavaNextCALModel",
]
