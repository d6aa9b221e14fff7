"""Writing a model shard by shard, so that memory holds one shard at a time."""

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

SHARD_BYTES = 5 * 10**9  # the default of save_pretrained


def write_shards(plan: Plan, checkpoint: Checkpoint, folder: Path, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Make the tensors of a plan and write them in transformers' file layout, one shard after another.

    Args:
        plan (`dict[str, Recipe]`): Recipes of the tensors; their sources are in the checkpoint.
        checkpoint (`Checkpoint`): The sources.
        folder (`Path`): Output folder for `model.safetensors`, or for numbered shards and their index, written last.
        shard_bytes (`int`): Maximum size of a shard in bytes. A single tensor may be larger.

    Returns:
        `list[Path]`: the files that hold tensors.
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
    """Write what `save_pretrained` writes beside the weights: the configuration, and the code of compalign's models.

    Args:
        model (`PreTrainedModel`): Model without weights, on the meta device.
        dtype (`torch.dtype`): Data type of the weights.
        folder (`Path`): Folder of the weights.
    """
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(dtype).removeprefix("torch.")
    if type(model)._auto_class is not None:
        custom_object_save(model, folder, config=model.config)
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Return the floating dtype that most values have."""
    values: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        values[tensor.dtype] += tensor.numel() * tensor.is_floating_point()
    return values.most_common(1)[0][0]


def split_by_size(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Split names into consecutive groups whose sizes sum to at most `most`; a larger name is a group by itself.

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
    """Read, make and write one shard; its memory is freed afterwards."""
    sources = checkpoint.read(source for recipe in plan.values() for source in recipe.sources)
    save_file(_unshared(make_tensors(plan, sources)), path, {"format": "pt"})


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory: safetensors refuses tied weights."""
    begun: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in begun else tensor
        begun.add(tensor.data_ptr())
    return result
