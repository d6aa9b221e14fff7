"""Fingerprints of encoders: everything that their features depend on, so that features of two are never mixed."""

import hashlib
import json
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from ..tokenization import caption_format

# Weights without influence on the features of one tower.
_NOT_FOR_IMAGES = ("text_model.", "text_projection.", "logit_scale", "logit_bias")
_NOT_FOR_TEXTS = ("vision_model.", "visual_projection.", "logit_scale", "logit_bias")
# Settings that describe the origin of a tower or a processor, not its results.
_ORIGIN = ("_name_or_path", "transformers_version", "architectures", "dtype", "auto_map", "processor_class")


def encoder_fingerprint(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, dict[str, Any]]:
    """Describe everything that the features of each tower depend on, besides the image or the text.

    Each tower has its own fingerprint, so that after training with a frozen image tower only texts are encoded again.
    The origin of the weights is not part of it, nor is anything that changes results by rounding alone: device,
    attention kernel, batch size, versions of libraries.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.

    Returns:
        `dict[str, dict]`: For "images" and for "texts": class and data type of the model, SHA-256 of the weights,
        settings of the tower, including its activation, and settings of the image processor or the tokenizer.
    """
    common = {"model": type(model).__name__, "dtype": str(model.dtype).removeprefix("torch.")}
    tokenizer, image_processor = processor.tokenizer, processor.image_processor
    return {
        "images": {
            "of": "images",
            **common,
            "weights": _weights_hash(model, without=_NOT_FOR_IMAGES),
            "tower": _settings(model.config.vision_config.to_dict()),
            # The class tells which library resizes; the settings do not.
            "preprocessing": {
                "class": type(image_processor).__name__,
                **_settings(json.loads(image_processor.to_json_string())),
            },
        },
        "texts": {
            "of": "texts",
            **common,
            "weights": _weights_hash(model, without=_NOT_FOR_TEXTS),
            "tower": _settings(model.config.text_config.to_dict()),
            "preprocessing": {
                "class": type(tokenizer).__name__,
                "tokenizer": _tokenizer_hash(tokenizer),
                **caption_format(model.config, tokenizer),
            },
        },
    }


def _weights_hash(model: nn.Module, without: tuple[str, ...]) -> str:
    """Hash the names, types, shapes and bytes of the weights, except those whose names start with `without`."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(without):
            content.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def _settings(written: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that change the results of a tower or a processor."""
    return {name: value for name, value in written.items() if name not in _ORIGIN}


def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash everything that the ids of a text depend on."""
    vocabulary: Any = sorted(tokenizer.get_vocab().items())
    if tokenizer.is_fast:
        vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary.update(padding=None, truncation=None)  # settings of the latest call
    sides = [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps([vocabulary, sides], sort_keys=True, default=str).encode()).hexdigest()
