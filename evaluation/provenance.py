"""Where results come from: the commit, the hardware, and whether the activation fits the weights."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

GIT_SECONDS = 5
# What names of checkpoints say of the activation that the weights were trained with; the first that occurs decides.
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
    """Say so if a model's activation is not the one that its name speaks of.

    A checkpoint of OpenAI's line that is built with GELU loses several points, without any error. The name is all there
    is to go by: weights do not show what they were trained with.

    Args:
        config (`PretrainedConfig`): Of a dual encoder, with `text_config` and `vision_config`.
        name (`str`): Hub id, folder or file name of the checkpoint.

    Returns:
        `str`, or `None` where nothing speaks against the activation.
    """
    lowered = name.lower()
    hint = next((word for word in TRAINED_WITH if word in lowered), None)
    towers = {"text": config.text_config, "vision": config.vision_config}
    activations = {tower: part.to_dict().get("hidden_act") for tower, part in towers.items()}
    wrong = {tower: found for tower, found in activations.items() if found not in (None, TRAINED_WITH.get(hint))}
    if hint is None or not wrong:
        return None
    met = " and ".join(f"{found} in the {tower} tower" for tower, found in wrong.items())
    return f'{met}, but "{hint}" in the name speaks of weights trained with {TRAINED_WITH[hint]}: check hidden_act'


def git_commit(folder: str | Path = ".") -> str | None:
    """Return the commit that a folder's repository is at.

    Args:
        folder (`str` or `Path`): Any folder of a working tree.

    Returns:
        `str`: 40 hexadecimal digits, or `None` without git, outside any repository, or if git does not answer.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware(device: torch.device) -> dict[str, str | int]:
    """Describe what a model ran on.

    Args:
        device (`torch.device`): Where the model is.

    Returns:
        `dict`: `device`, the name of the accelerator or processor; `threads` of torch; `memory_bytes`, all that the
        accelerator or, for a CPU, the machine has.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name = f"{device.type} {platform.processor() or platform.machine()}"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"device": name, "threads": torch.get_num_threads(), "memory_bytes": memory}
