"""The exponential moving average that makes DeGLA's teacher."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], decay: float) -> None:
    """Move every teacher tensor towards the student's in place: `t <- decay * t + (1 - decay) * s`.

    One fused operation over all tensors, elementwise, hence right on local shards as well.

    Args:
        teacher (`Sequence[torch.Tensor]`): The averages, best kept in float32; changed in place.
        student (`Sequence[torch.Tensor]`): Tensors of the same shapes and order, of any floating dtype.
        decay (`float`): Share of the old average that stays, in [0, 1].

    Raises:
        ValueError: If `decay` lies outside [0, 1].

    Reference:
        DeGLA, Eq. 6, https://huggingface.co/papers/2504.16801.
    """
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")
    same_dtype = [value.to(average.dtype) for average, value in zip(teacher, student, strict=True)]
    torch._foreach_lerp_(list(teacher), same_dtype, 1.0 - decay)


def make_teacher(student: nn.Module) -> nn.Module:
    """A frozen float32 copy of `student` in evaluation mode. Its buffers are never averaged.

    What the student does not train it shares with the teacher, so that the teacher of an adapted model weighs no more
    than the adapters. Half-precision weights are copied all the same.
    """
    shared = {id(own): own for own in student.parameters() if not own.requires_grad and own.dtype == torch.float32}
    return copy.deepcopy(student, shared).float().eval().requires_grad_(False)
