"""Refusals at the start of a run: launches and batches that would train something else than asked."""

import os

from transformers import TrainingArguments

from .distributed import world_size


def check_launch(args: TrainingArguments) -> None:
    """Refuse launches in which processes would train side by side instead of together."""
    launched = max(world_size(), int(os.environ.get("WORLD_SIZE", "1")))
    if launched != args.world_size:
        raise ValueError(
            f"{launched} processes were launched but the trainer counts {args.world_size}: they would not share "
            "gradients. On a CPU pass --use_cpu true to a script started by torchrun or accelerate launch --multi_gpu."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"one process sees {args.n_gpu} GPUs and would split captions away from their images: start one process a "
            "GPU (accelerate launch or torchrun), or show it one GPU (CUDA_VISIBLE_DEVICES=0)."
        )


def check_batches(rows: int, args: TrainingArguments) -> None:
    """Refuse batches in which nothing could be contrasted."""
    batch = args.train_batch_size * args.world_size
    if batch == 1:
        raise ValueError("a batch of one row has nothing to contrast; raise per_device_train_batch_size")
    if args.dataloader_drop_last and rows < batch:
        raise ValueError(
            f"{rows} rows make no batch of {batch} ({args.train_batch_size} rows x {args.world_size} processes); lower "
            "per_device_train_batch_size or set dataloader_drop_last to false"
        )
    if not args.dataloader_drop_last and rows % batch == 1:
        raise ValueError(
            f"the last of {-(-rows // batch)} batches would hold a single row ({rows} rows in batches of {batch}), "
            "which has nothing to contrast; set dataloader_drop_last to true or change the batch size"
        )
