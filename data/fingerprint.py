"""What the features of an encoder depend on, so that those of another are never taken for them."""

import hashlib
import json
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from .tokenization import caption_padding, text_length

# Weights that the features of one tower do not depend on.
_NOT_FOR_IMAGES = ("text_model.", "text_projection.", "logit_scale", "logit_bias")
_NOT_FOR_TEXTS = ("vision_model.", "visual_projection.", "logit_scale", "logit_bias")
# Settings that say where a tower or a processor came from, not what it computes.
_ORIGIN = ("_name_or_path", "transformers_version", "architectures", "dtype", "auto_map", "processor_class")


def encoder_fingerprint(model: PreTrainedModel, processor: ProcessorMixin) -> dict[str, dict[str, Any]]:
    """Say all that the features of each tower depend on, besides the image or the text.

    The towers have a fingerprint each, so that after training with a frozen image tower only texts are encoded again.
    Where weights come from is not part of it, nor is what changes results by rounding alone: device, attention kernel,
    batch size, versions of libraries.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.

    Returns:
        `dict[str, dict]`: For "images" and "texts": class and data type of the model, SHA-256 of the weights, settings
        of the tower (its activation is one), and those of the image processor or of the tokenizer.
    """
    common = {"model": type(model).__name__, "dtype": str(model.dtype).removeprefix("torch.")}
    tokenizer, image_processor = processor.tokenizer, processor.image_processor
    return {
        "images": {
            "of": "images",
            **common,
            "weights": _weights_hash(model, without=_NOT_FOR_IMAGES),
            "tower": _settings(model.config.vision_config.to_dict()),
            # Its class tells the library that resizes, which the settings do not.
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
                "padding": caption_padding(model.config),
                "max_length": text_length(model.config, tokenizer),
            },
        },
    }


def _weights_hash(model: nn.Module, without: tuple[str, ...]) -> str:
    """Hash the names, types, shapes and bytes of the weights that do not start with certain names."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(without):
            content.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def _settings(written: dict[str, Any]) -> dict[str, Any]:
    """The settings that change what a tower or a processor computes."""
    return {name: value for name, value in written.items() if name not in _ORIGIN}


def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash what decides about the ids of a text."""
    vocabulary: Any = sorted(tokenizer.get_vocab().items())
    if tokenizer.is_fast:
        vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
        vocabulary.update(padding=None, truncation=None)  # those of the latest call
    sides = [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps([vocabulary, sides], sort_keys=True, default=str).encode()).hexdigest()
