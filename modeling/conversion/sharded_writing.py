"""Writing a model shard by shard, so that one shard is all that memory has to hold."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from .renames import Plan, make_tensors
from .safe_loading import Checkpoint

SHARD_BYTES = 5 * 10**9  # as transformers' save_pretrained


def write_shards(plan: Plan, checkpoint: Checkpoint, folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Make the tensors of a plan and write them in transformers' file layout, one shard after another.

    Args:
        plan (`dict[str, Recipe]`): What to make; its sources are in the checkpoint.
        checkpoint (`Checkpoint`): Where the sources are.
        folder (`Path`): Gets `model.safetensors`, or numbered shards and their index, which comes last.
        shard_bytes (`int`): Most bytes of tensors in a shard; a single tensor may have more.

    Returns:
        `list[Path]`: the files of tensors.
    """
    sizes = {name: tensor.nbytes for name, tensor in make_tensors(plan, checkpoint.shapes).items()}
    shards = split_by_size(sizes, shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        files[folder / file] = names
        _write_shard({name: plan[name] for name in names}, checkpoint, folder / file)
    if len(shards) > 1:
        weight_map = {tensor: path.name for path, names in files.items() for tensor in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return list(files)


def write_config(model: PreTrainedModel, dtype: torch.dtype, folder: Path) -> None:
    """Write what `save_pretrained` writes beside the weights: configuration, and the code of a class of ours.

    Args:
        model (`PreTrainedModel`): Without weights, on the meta device.
        dtype (`torch.dtype`): That of the weights.
        folder (`Path`): Where they are.
    """
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(dtype).removeprefix("torch.")
    if type(model)._auto_class is not None:
        custom_object_save(model, folder, config=model.config)
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The floating dtype of most values."""
    values: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        values[tensor.dtype] += tensor.numel() * tensor.is_floating_point()
    return values.most_common(1)[0][0]


def split_by_size(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Split names into consecutive groups whose sizes add up to `most` at the most, or consist of one name.

    Args:
        sizes (mapping of `str` to `int`): Size of each name, >= 0.
        most (`int`): Largest sum.

    Returns:
        `list[list[str]]`: every name once, in the given order; at least one group.

    Example:
        >>> split_by_size({"a": 3, "b": 3, "c": 9, "d": 1}, most=6)
        [['a', 'b'], ['c'], ['d']]
    """
    groups, total = [[]], 0
    for name, size in sizes.items():
        if groups[-1] and total + size > most:
            groups.append([])
            total = 0
        groups[-1].append(name)
        total += size
    return groups


def _write_shard(plan: Plan, checkpoint: Checkpoint, path: Path) -> None:
    """Read, make and write; everything read is free again afterwards."""
    sources = checkpoint.read(source for recipe in plan.values() for source in recipe.sources)
    save_file(_unshared(make_tensors(plan, sources)), path, {"format": "pt"})


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, of which no two begin at the same byte: safetensors writes no tied weights."""
    begun: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in begun else tensor
        begun.add(tensor.data_ptr())
    return result
