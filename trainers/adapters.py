"""Adapters (LoRA, DoRA): train, save and publish a few small matrices in place of a model's weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ..modeling import ComAlignModel

if TYPE_CHECKING:
    from peft import PeftModel

# Bare names such as q_proj would match every tower, so they are anchored: tower, layer, linear map inside the layer.
TOWERS = {"text": "text_model|text_head|language_model", "vision": "vision_model|vision_tower|image_head"}
LINEAR_MAPS = (
    *("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),  # CLIP, SigLIP, ComAlign's heads
    *("o_proj", "gate_proj", "up_proj", "down_proj"),  # LLaMA and its kin
    *("query", "key", "value", "dense"),  # BERT, under Chinese-CLIP and AltCLIP
)
# The parts between the towers of a multimodal model are small and are trained in full.
PROJECTORS = ("multi_modal_projector", "connector", "merger")
MAGNITUDE = "lora_magnitude_vector"


@dataclass
class AdapterArguments:
    """Adapters on frozen weights, where a rank is given."""

    GROUP: ClassVar[str] = "model"

    lora_rank: int = field(default=0, metadata={"help": "Rank of the adapters; 0 trains the weights themselves."})
    lora_alpha: int = field(default=16, metadata={"help": "Scale of the adapters, divided by the rank."})
    use_dora: bool = field(
        default=False, metadata={"help": "Use DoRA, which adds a trained length for each row of a weight."}
    )
    adapted: list[str] = field(
        default_factory=lambda: list(TOWERS), metadata={"help": f"Towers with adapters: {', '.join(TOWERS)}."}
    )

    def __post_init__(self):
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be 0 or more, got {self.lora_rank}")
        if self.use_dora and not self.lora_rank:
            raise ValueError("use_dora needs adapters: set lora_rank to their rank")


def add_adapters(model: PreTrainedModel, arguments: AdapterArguments, seed: int = 0) -> "PeftModel":
    """Freeze a model and put adapters on the attention and the MLP of each layer of its towers.

    Only the adapters are trained, and the projector of a multimodal model in full. The logit scale of a dual
    encoder stays that of its base: an adapter's file has no place for a parameter outside a layer.

    Args:
        model (`PreTrainedModel`): A dual encoder, trained heads of ComAlign, or an image-text-to-text model; changed in
            place.
        arguments (`AdapterArguments`): Rank, scale, kind, and which towers: "text" is the language model of a
            multimodal model and the text head of ComAlign.
        seed (`int`): Seed of the random halves of the adapters, which all processes have to draw alike; the products
            of both halves begin at zero.

    Returns:
        `PeftModel`: it forwards the attributes of the model, so every trainer takes it. Its `save_pretrained` writes
        the adapters alone.

    Raises:
        ValueError: If a tower is unknown or not in the model, or if adapters could not change the outputs.

    Reference:
        LoRA, https://huggingface.co/papers/2106.09685; DoRA, https://huggingface.co/papers/2402.09353.
    """
    from peft import LoraConfig, get_peft_model

    names = [name for name, _ in model.named_modules()]
    present = [tower for tower in TOWERS if any(re.fullmatch(layer_pattern([tower]), name) for name in names)]
    if not arguments.adapted or set(arguments.adapted) - set(present):
        raise ValueError(
            f"adapted must name some of {', '.join(present)} for {type(model).__name__}, got {arguments.adapted}"
        )
    if isinstance(model, ComAlignModel):
        _check_gates(model)
    config = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        use_dora=arguments.use_dora,
        target_modules=layer_pattern(arguments.adapted),
        modules_to_save=[part for part in PROJECTORS if any(name.split(".")[-1] == part for name in names)] or None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def refuse_adapter_chain(arguments: Any) -> None:
    """Refuse to put new adapters on saved ones: they would be saved over the first base, and the first would be lost.

    Args:
        arguments: With the `model` to start from and a `lora_rank`.

    Raises:
        ValueError: If both are adapters.
    """
    if arguments.lora_rank and Path(arguments.model, "adapter_config.json").is_file():
        raise ValueError(
            f"{arguments.model} is an adapter, and a new adapter would be saved without it; merge it first: compalign "
            f"merge --adapter {arguments.model} --output_dir MERGED, then train on MERGED"
        )


def layer_pattern(towers: Sequence[str]) -> str:
    """Regular expression that matches the whole paths of the linear maps in the layers of the named towers."""
    inside = "|".join(TOWERS[tower] for tower in towers)
    return rf"(.*\.)?({inside})\.(.*\.)?layers?\.\d+\.(.*\.)?({'|'.join(LINEAR_MAPS)})"


def is_adapted(model: torch.nn.Module) -> bool:
    """Return whether an unwrapped model is saved as adapters without its base."""
    from peft import PeftModel

    return isinstance(model, PeftModel)


def plain_model(model: torch.nn.Module) -> Any:
    """Return an unwrapped model without what holds its adapters, which stay inside."""
    return model.get_base_model() if is_adapted(model) else model


def name_magnitudes(folder: str | Path) -> None:
    """Give DoRA's lengths in a saved adapter the names under which both peft and transformers find them.

    peft leaves `.weight` off. It reads either form, but `from_pretrained` of transformers (to 5.23) passes over lengths
    so named, with a warning, and answers with those of the base.

    Args:
        folder (`str` or `Path`): Where `save_pretrained` wrote an adapter; one of LoRA is left as it is.
    """
    path = Path(folder, "adapter_model.safetensors")
    tensors = load_file(path)
    if any(name.endswith(MAGNITUDE) for name in tensors):
        renamed = {f"{name}.weight" if name.endswith(MAGNITUDE) else name: value for name, value in tensors.items()}
        save_file(renamed, path, metadata={"format": "pt"})


def _check_gates(model: ComAlignModel) -> None:
    """Refuse heads that add nothing yet: behind a frozen gate of zeros no adapter gets a gradient."""
    shut = [name for name, value in model.named_parameters() if name.endswith(".gate") and not value.any()]
    if shut:
        raise ValueError(f"{', '.join(shut)} is zero, as in new heads: train them in full before adapting them")
