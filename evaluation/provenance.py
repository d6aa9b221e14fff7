"""The hardware of an evaluation, and a check that the activation function fits the weights."""

import os
import platform
from typing import Any

import torch

# The activation that weights were trained with, by words in the names of checkpoints; the first word found decides.
# OpenAI's weights, and those fine-tuned from them by the published methods, are QuickGELU.
TRAINED_WITH = {
    "quickgelu": "quick_gelu",
    "laion": "gelu",
    "openai": "quick_gelu",
    "negclip": "quick_gelu",
    "ceclip": "quick_gelu",
    "ce-clip": "quick_gelu",
    "degla": "quick_gelu",
}


def activation_warning(config: Any, name: str) -> str | None:
    """Warn if a model's activation function is not the one that its name suggests.

    A checkpoint derived from OpenAI's that is built with GELU loses several points, without any error. The weights do
    not show what they were trained with, so the name is the only evidence.

    Args:
        config (`PreTrainedConfig`): Configuration with `text_config` and `vision_config`.
        name (`str`): Hub id, folder or file name of the checkpoint.

    Returns:
        `str`, or `None` if the name suggests no other activation.
    """
    lowered = name.lower()
    hint = next((word for word in TRAINED_WITH if word in lowered), None)
    towers = {"text": config.text_config, "vision": config.vision_config}
    activations = {tower: part.to_dict().get("hidden_act") for tower, part in towers.items()}
    wrong = {tower: found for tower, found in activations.items() if found not in (None, TRAINED_WITH.get(hint or ""))}
    if hint is None or not wrong:
        return None
    met = " and ".join(f"{found} in the {tower} tower" for tower, found in wrong.items())
    return f'{met}, but "{hint}" in the name suggests weights trained with {TRAINED_WITH[hint]}: check hidden_act'


def hardware(device: torch.device) -> dict[str, str | int]:
    """Describe the hardware that a model runs on.

    Args:
        device (`torch.device`): The model's device.

    Returns:
        `dict`: `device`, the name of the accelerator or processor; `threads` of torch; and, where the system reports
        it, `memory_bytes`, the memory of the accelerator or, for a CPU, of the machine.
    """
    found: dict[str, str | int] = {"threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"device": properties.name, **found, "memory_bytes": properties.total_memory}
    found = {"device": f"{device.type} {platform.processor() or platform.machine()}", **found}
    if os.name == "posix":  # Windows has no sysconf
        found["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return found
