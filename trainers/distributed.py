"""Rows and sums of all processes: the only place that knows ranks."""

import math

import torch
import torch.distributed as dist
from torch import Tensor

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
