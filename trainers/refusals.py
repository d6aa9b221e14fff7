"""Refusals of what `transformers.Trainer` accepts and the trainers here would pass over in silence."""

from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments

ORDERS = ("random", "sequential")


def refuse_model_init(arguments: Mapping[str, Any]) -> None:
    """Refuse a function that makes the model during the training.

    Args:
        arguments (`Mapping`): The keyword arguments of a trainer.

    Raises:
        ValueError: If `model_init` is among them.
    """
    if arguments.get("model_init") is not None:
        raise ValueError(
            "model_init is not supported, since batches are prepared for the model that is trained: pass model, and "
            "make a new trainer for each trial of a search"
        )


def refuse_unheeded(args: TrainingArguments) -> None:
    """Refuse arguments that would change nothing.

    Raises:
        ValueError: If label smoothing is asked for, or an order of rows by length.
    """
    if args.label_smoothing_factor:
        raise ValueError(
            f"label_smoothing_factor={args.label_smoothing_factor} would change nothing: the losses of the methods "
            "have no label smoothing; leave it at 0"
        )
    if args.train_sampling_strategy not in ORDERS:
        raise ValueError(
            f"train_sampling_strategy={args.train_sampling_strategy!r} needs lengths that are known only once a row is "
            f"encoded; accepted: {', '.join(ORDERS)}, and for CAL group_by_modality, which estimates them"
        )
