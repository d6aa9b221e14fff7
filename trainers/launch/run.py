"""One run from start to saved model: trained, resumed where asked, saved with its processor, recorded."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import set_seed

from ...data.provenance import git_commit, versions
from ..trainer import BaseTrainer

RECORD, LOG = "run.json", "training_log.json"
LIBRARIES = ("compalign", "torch", "transformers", "accelerate")


def train_and_save(trainer: BaseTrainer, dtype: torch.dtype | None = None) -> None:
    """Train, resume where asked, and save into the output folder: model, processor, metrics, log and record.

    Every command that trains ends here. Writes run.json (the arguments that differ from their defaults, commit,
    versions) and training_log.json beside the weights, and prints time, speed and peak memory.

    Args:
        trainer (`BaseTrainer`): With its model, rows and processor.
        dtype (`torch.dtype`, *optional*): Data type to save the weights in; default: that of the training.
    """
    set_seed(trainer.args.seed)
    asked = trainer.args.resume_from_checkpoint  # a folder, or "true" for the latest in the output folder
    result = trainer.train(resume_from_checkpoint=True if asked in ("true", "True") else asked)
    if dtype is not None:
        trainer.model.to(dtype)
    trainer.save_model()
    metrics = {**result.metrics, "peak_memory_bytes": peak_memory_bytes()}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if trainer.is_world_process_zero():
        folder = Path(trainer.args.output_dir)
        _write_json(folder / RECORD, run_record(trainer))
        _write_json(folder / LOG, trainer.state.log_history)
    trainer.accelerator.end_training()  # processes that leave the group at will abort each other


def run_record(trainer: BaseTrainer) -> dict[str, Any]:
    """Collect what it takes to repeat a run: arguments that differ from their defaults, processes, commit, versions.

    Fields whose names speak of tokens are left out, for the record lies beside the weights.
    """
    arguments = {
        item.name: value
        for item in dataclasses.fields(trainer.args)
        if item.init and "token" not in item.name
        if (value := getattr(trainer.args, item.name)) != _default(item)
    }
    return {
        "trainer": type(trainer).__name__,
        "start": trainer.model.config.name_or_path,
        "arguments": arguments,
        "processes": trainer.args.world_size,
        "commit": git_commit(),
        "versions": versions(*LIBRARIES),
    }


def peak_memory_bytes() -> int:
    """Measure the largest memory that this process has held, in bytes: on its GPU, or resident where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def _default(item: dataclasses.Field) -> Any:
    """The default value of a field."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _write_json(path: Path, content: Any) -> None:
    """Write readable JSON; what JSON does not know, as text."""
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
