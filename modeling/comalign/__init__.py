"""ComAlign's heads over a frozen dual encoder, the processor for their inputs, and the comparison of image and text."""

from .configuration_comalign import ComAlignConfig
from .modeling_comalign import ComAlignModel, ComAlignOutput
from .processing_comalign import ComAlignProcessor
from .similarity import component_similarity, defined_pairs, mean_score, released_score

__all__ = [
    "ComAlignConfig",
    "ComAlignModel",
    "ComAlignOutput",
    "ComAlignProcessor",
    "component_similarity",
    "defined_pairs",
    "mean_score",
    "released_score",
]
