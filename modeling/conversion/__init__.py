"""Checkpoints in other layouts: read safely, tensors renamed, written shard by shard."""

from .activation import ACTIVATIONS, Activation, find_activation, unknown_activation
from .layouts import Layout, choose_kind, recognise
from .reference import clip_differences, comalign_differences, llava_differences
from .renames import Plan, Recipe, Rename, check_complete, make_tensors, plan_to_ours, plan_to_released
from .safe_loading import Checkpoint, open_checkpoint, sha256
from .sharded_writing import common_dtype, write_config, write_shards

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Checkpoint",
    "Layout",
    "Plan",
    "Recipe",
    "Rename",
    "check_complete",
    "choose_kind",
    "clip_differences",
    "comalign_differences",
    "common_dtype",
    "find_activation",
    "llava_differences",
    "make_tensors",
    "open_checkpoint",
    "plan_to_ours",
    "plan_to_released",
    "recognise",
    "sha256",
    "unknown_activation",
    "write_config",
    "write_shards",
]
