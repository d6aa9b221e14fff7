"""Fingerprint of a folder as somebody who downloads it sees it: weights and answers of the model in it.

    python -I load_back.py FOLDER ANSWERS.safetensors

As a program it runs where compalign cannot be imported, so this file imports nothing from compalign.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
CAPTIONS = ["a red cat above a blue star", "a blue cat"]


class Fingerprint(NamedTuple):
    """Weights and answers of a model.

    Args:
        weights (`dict[str, str]`): SHA-256 of type, shape and bytes of each tensor of the state dictionary.
        answers (`dict[str, torch.Tensor]`): Output tensors for the fixed input.
    """

    weights: dict[str, str]
    answers: dict[str, Tensor]


def load_model(folder: str | Path) -> torch.nn.Module:
    """Load a model, or an adapter over its base, with the Auto class that fits it.

    Raises:
        ValueError: If a weight is missing, left over, or of another shape.
    """
    config = transformers.AutoConfig.from_pretrained(base_of(folder), trust_remote_code=True)
    auto_class = getattr(transformers, auto_class_name(config))
    model, loaded = auto_class.from_pretrained(
        folder, trust_remote_code=True, dtype="auto", use_safetensors=True, output_loading_info=True
    )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in loaded.items() if keys}
    if wrong:
        raise ValueError(f"weights do not fit the model: {json.dumps(wrong)}")
    return model


def load_processor(folder: str | Path) -> transformers.ProcessorMixin:
    """Load the processor beside a model; for an adapter without one, that of its base."""
    beside = any(Path(folder, name).exists() for name in PROCESSOR_FILES)
    return transformers.AutoProcessor.from_pretrained(folder if beside else base_of(folder), trust_remote_code=True)


def base_of(folder: str | Path) -> str | Path:
    """Where the configuration is: in the folder, or, for an adapter, with its base."""
    adapter = Path(folder, "adapter_config.json")
    if Path(folder, "config.json").exists() or not adapter.exists():
        return folder
    return json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]


def auto_class_name(config: transformers.PretrainedConfig) -> str:
    """The Auto class that the folder names, or that its kind of model needs."""
    named = [name for name in getattr(config, "auto_map", None) or {} if name != "AutoConfig"]
    if named:
        return named[0]
    reads_images = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return "AutoModelForImageTextToText" if reads_images else "AutoModel"


def fingerprint(model: torch.nn.Module, processor: transformers.ProcessorMixin) -> Fingerprint:
    """Hash the weights of a model, and run it on a fixed input."""
    weights = {name: _digest(tensor) for name, tensor in model.state_dict().items()}
    training = model.training
    # ComAlign's heads run without their frozen encoder, which is published elsewhere.
    of_heads = model.config.model_type == "comalign"
    inputs = fixed_features(model.config) if of_heads else fixed_inputs(processor)
    with torch.inference_mode():
        output = model.eval()(**inputs.to(model.device))
    model.train(training)
    # Safetensors refuses tensors that share memory.
    answers = {name: value.cpu().clone() for name, value in output.items() if isinstance(value, Tensor)}
    return Fingerprint(weights, answers)


def fixed_inputs(processor: transformers.ProcessorMixin) -> transformers.BatchFeature:
    """Two captions of an image; a question about it where the processor has a chat template."""
    image = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    if type(processor).__name__ == "ComAlignProcessor":  # it takes sequences, and pads by its own settings
        return processor(images=[image], text=CAPTIONS)
    if processor.chat_template is None:
        return processor(text=CAPTIONS, images=image, padding=True, truncation=True, return_tensors="pt")
    question = [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]
    return processor.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def fixed_features(config: transformers.PretrainedConfig) -> transformers.BatchFeature:
    """Two images and two captions with all their components, as ComAlign's frozen encoder could embed them."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "components": (2, config.entities + config.relations, config.hidden_size),
        "global": (2, config.hidden_size),
    }
    return transformers.BatchFeature(
        {
            f"{side}_{name}": torch.randn(shape, generator=generator)
            for side in ("image", "text")
            for name, shape in shapes.items()
        }
    )


def _digest(tensor: Tensor) -> str:
    """Hash of a tensor's type, shape and bytes."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}".encode() + content.tobytes()).hexdigest()


if __name__ == "__main__":
    sys.modules["compalign"] = None  # type: ignore[assignment]  # an import of it fails from here on
    found = fingerprint(load_model(sys.argv[1]), load_processor(sys.argv[1]))
    save_file(found.answers, sys.argv[2], {"weights": json.dumps(found.weights)})
