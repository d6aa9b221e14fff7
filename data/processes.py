"""Processes that work together: the rank of this one, their number, and values from all of them."""

from typing import Any

import torch.distributed as dist


def rank_and_world() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; 0 and 1 without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def all_gathered(value: Any) -> list[Any]:
    """Collect a picklable value from every process, in order of rank.

    Every process must call this, and no call returns before all have made it.
    """
    values = [value] * rank_and_world()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values
