"""One run from start to saved model: begun or continued, trained, saved with its processor, recorded."""

import sys
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import ExportableState

from ...data.processes import all_gathered
from ..trainer import BaseTrainer
from .folder import open_folder
from .record import LOG, RECORD, Record, run_record, write_json


def train_and_save(trainer: BaseTrainer, dtype: torch.dtype | None = None) -> None:
    """Train, and save into the output folder: model, processor, metrics, log and record.

    Every command that trains ends here. A run that was stopped goes on from its last checkpoint, and a finished one is
    saved again; another run in the same folder is refused unless `overwrite` is set, which removes it. Writes run.json
    (the arguments that differ from their defaults, data, commit, versions) and training_log.json beside the weights,
    and prints time, speed and peak memory.

    Args:
        trainer (`BaseTrainer`): With its model, rows and processor.
        dtype (`torch.dtype`, *optional*): Data type to save the weights in; default: that of the training.

    Raises:
        ValueError: If the output folder holds another run, or `resume` names no checkpoint of this one.
    """
    folder = Path(trainer.args.output_dir)
    set_seed(trainer.args.seed)
    record = run_record(trainer)
    trainer.add_callback(BindCheckpoints(record))
    checkpoint = _agree_on_start(trainer, record)
    if trainer.is_world_process_zero():
        write_json(folder / RECORD, record)
    set_seed(trainer.args.seed)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if dtype is not None:
        trainer.model.to(dtype)
    trainer.save_model()
    metrics = {**result.metrics, "peak_memory_bytes": peak_memory_bytes()}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if trainer.is_world_process_zero():
        write_json(folder / LOG, trainer.state.log_history)
    trainer.accelerator.end_training()  # processes that leave the group at will abort each other


def _agree_on_start(trainer: BaseTrainer, record: Record) -> str | None:
    """Find the checkpoint to go on from, None to begin: all processes take the first one's view of the folder."""
    found, problem = None, None
    if trainer.is_world_process_zero():
        try:
            found = open_folder(trainer.args, record)
        except ValueError as error:
            problem = error
    found, problem = all_gathered((found, problem))[0]
    if problem is not None:
        raise problem
    if found is not None:
        trainer.accelerator.print(f"continuing from {found}")
    return None if found is None else str(found)


class BindCheckpoints(TrainerCallback, ExportableState):
    """Keeps the record of a run in the state that each of its checkpoints holds.

    Args:
        record (`dict`): From `run_record`.
    """

    def __init__(self, record: Record):
        self.record = record

    def state(self) -> dict:
        return {"args": {"record": self.record}, "attributes": {}}

    def on_train_begin(self, args, state, control, **kwargs):
        # The Trainer expects each callback in the state of a checkpoint that it goes on from.
        state.stateful_callbacks[type(self).__name__] = self.state()


def peak_memory_bytes() -> int:
    """Measure the largest memory that this process has held, in bytes: on its GPU, or resident where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
