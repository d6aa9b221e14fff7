"""Rows and sums of all processes, and parameters of which each holds a shard: the only place that knows ranks."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..data.processes import rank_and_world


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return rank_and_world()[1]


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor of one shape over all processes, elementwise and without gradient."""
    value = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Concatenate the rows of all processes, rank by rank, keeping each row's tensors together.

    Pieces of one row (image, caption, negatives, mask) travel in one collective call and keep their place, so that row
    `i` of every result belongs to one sample. Processes may bring different numbers of rows.

    Every process must compute the same loss from the gathered rows. The gradient is then exact under the mean that
    DDP, DeepSpeed and FSDP take over processes, and the backward pass needs no communication.

    Args:
        tensors (`torch.Tensor` of shape `(rows, ...)`): Floating tensors of one dtype, as many rows each.

    Returns:
        `tuple[torch.Tensor, ...]`: the same tensors with the rows of all processes; the inputs where there is one.

    Raises:
        ValueError: If the tensors disagree in their rows, or the processes in the shape of a row.
    """
    rows = len(tensors[0])
    if any(len(tensor) != rows for tensor in tensors):
        raise ValueError(f"all tensors must have as many rows, got {[len(tensor) for tensor in tensors]}")
    if world_size() == 1:
        return tensors
    packed = torch.cat([tensor[:, None].flatten(1) for tensor in tensors], dim=1)  # (rows, width)
    gathered = _GatherRows.apply(packed, _row_counts(packed))  # (all rows, width)
    widths = [math.prod(tensor.shape[1:]) for tensor in tensors]
    pieces = gathered.split(widths, dim=1)
    return tuple(piece.reshape(len(gathered), *tensor.shape[1:]) for piece, tensor in zip(pieces, tensors, strict=True))


def _row_counts(packed: Tensor) -> list[int]:
    """Ask for the number of rows of each process first: unequal sizes would abort inside the collective."""
    shape = torch.tensor(packed.shape, device=packed.device)
    shapes = [torch.empty_like(shape) for _ in range(world_size())]
    dist.all_gather(shapes, shape)
    counts, widths = zip(*torch.stack(shapes).tolist(), strict=True)
    if len(set(widths)) > 1:
        raise ValueError(
            f"processes brought rows of different widths {widths}: do all use the same number of negatives?"
        )
    return list(counts)


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward is local.

    Each process holds the gradient of the same loss with respect to all gathered rows. Summing those equal gradients
    over W processes, as a reduce-scatter would, gives W times the local slice: no need to ask the others.
    """

    @staticmethod
    def forward(ctx, packed: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = packed.new_zeros(max(counts), packed.shape[1])
        padded[: len(packed)] = packed
        gathered = packed.new_empty(len(counts) * len(padded), packed.shape[1])
        dist.all_gather_into_tensor(gathered, padded)
        if len(set(counts)) == 1:
            return gathered
        blocks = gathered.split(len(padded))
        return torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.split(ctx.counts)[dist.get_rank()]
        return own * len(ctx.counts), None


# Parameters under DeepSpeed. Stage 3 leaves a flat shard of each on a process, in its attribute `ds_tensor`, and an
# empty tensor in its place between forward passes. In stages 2 and 3 the optimizer moves float32 copies of its own.


def is_sharded(parameter: nn.Parameter) -> bool:
    """Return whether this process holds a shard of a parameter only."""
    return hasattr(parameter, "ds_tensor")


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter, also where this process holds a flat shard of it."""
    return parameter.ds_shape if is_sharded(parameter) else parameter.shape


def gathered(parameters: nn.Parameter | Iterable[nn.Parameter], write: bool = False) -> AbstractContextManager:
    """Let parameters be whole in a context that all processes enter.

    Args:
        parameters (`nn.Parameter` or several): Sharded ones are gathered, others are whole already.
        write (`bool`): Whether the first process changes them; the shards of all processes then follow.
    """
    parameters = [parameters] if isinstance(parameters, nn.Parameter) else list(parameters)
    if not any(map(is_sharded, parameters)):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters, modifier_rank=0 if write else None)


def held(parameter: nn.Parameter) -> Tensor:
    """Return what this process holds of a parameter: its shard, or the whole."""
    return parameter.ds_tensor.data if is_sharded(parameter) else parameter.data


def held_in_float32(parameter: nn.Parameter) -> Tensor:
    """Return what this process holds of a trained parameter, as precise as the optimizer knows it."""
    if is_sharded(parameter):
        from deepspeed.utils import safe_get_local_fp32_param

        return safe_get_local_fp32_param(parameter)
    if has_master(parameter) and parameter.dtype != torch.float32:
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)
    return parameter.data


def has_master(parameter: nn.Parameter) -> bool:
    """Return whether DeepSpeed's stages 1 and 2 step another copy of a parameter."""
    return hasattr(parameter, "_hp_mapping")


@torch.no_grad()
def clamp_parameter(parameter: nn.Parameter, low: float, high: float) -> None:
    """Bound a trained parameter, and the copy that the optimizer steps: bounded alone, it would come back unbounded.

    All processes have to call it.

    Args:
        parameter (`nn.Parameter`): Whole or sharded; changed in place.
        low, high (`float`): The bounds.
    """
    parameter.data.clamp_(low, high)
    if is_sharded(parameter):
        from deepspeed.utils import safe_get_local_fp32_param, safe_set_local_fp32_param

        parameter.ds_tensor.data.clamp_(low, high)
        safe_set_local_fp32_param(parameter, safe_get_local_fp32_param(parameter).clamp(low, high))
    elif has_master(parameter):
        from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param

        safe_set_full_fp32_param(parameter, safe_get_full_fp32_param(parameter).clamp(low, high))


def shard_frozen(module: nn.Module, zero: dict[str, Any]) -> nn.Module:
    """Leave a shard of each parameter of a module that is never trained on a process, as ZeRO-3 does.

    Args:
        module (`nn.Module`): Whole and the same on all processes; changed in place.
        zero (`dict`): Section `zero_optimization` of the configuration of the training.

    Returns:
        `DeepSpeedEngine`: it gathers the parameters of each layer for its forward. Its shards have the layout of those
        of a trained module of the same shapes.
    """
    import deepspeed

    config = {
        "train_micro_batch_size_per_gpu": 1,  # wanted by DeepSpeed, and of no meaning without an optimizer
        "zero_optimization": {
            "stage": 3,
            "stage3_param_persistence_threshold": 0,  # a layer that stays gathered would not see its shard change
            "stage3_allgather_sequential": zero.get("stage3_allgather_sequential", False),
        },
    }
    engine = deepspeed.initialize(model=module, config=config)[0]
    engine.eval()
    return engine
