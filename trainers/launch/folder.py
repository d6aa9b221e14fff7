"""The output folder of a run: empty, with this run, or with another."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from ..trainer import BaseArguments
from .record import LOG, RECORD, Record, differences

AUTO, NEVER = "auto", "never"
CHECKPOINTS = "checkpoint-*"
# What a run leaves in its folder besides checkpoints; the files of a processor are written anew by the next.
LEFT = (RECORD, LOG, TRAINER_STATE_NAME, "train_results.json", "all_results.json")
MODEL = ("*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json")

logger = logging.getLogger(__name__)


def open_folder(args: BaseArguments, record: Record) -> Path | None:
    """Make the output folder ready for a run, and find the checkpoint to go on from; None to begin.

    Args:
        args (`BaseArguments`): Output folder, `resume` and `overwrite`.
        record (`dict`): Record of this run.

    Raises:
        ValueError: If the folder holds another run, or this one though it should not be resumed, and `overwrite` is not
            set; if `resume` names no checkpoint, or one of another run.
    """
    folder = Path(args.output_dir)
    resume = args.resume_from_checkpoint or args.resume  # a script may still set the Trainer's own field
    named = None if resume in (AUTO, NEVER) else _checked(Path(resume), record)
    if not holds_run(folder) or (named is not None and named.parent.resolve() == folder.resolve()):
        return named
    changed = _what_changed(folder, record)
    if not changed and resume != NEVER:
        latest = named or last_checkpoint(folder)
        return latest and _checked(latest, record)
    if not args.overwrite:
        held = f"another run ({'; '.join(changed)})" if changed else "this run already, and resume is never"
        raise ValueError(
            f"{folder} holds {held}: choose another output_dir, or pass --overwrite true, which removes what it holds "
            "and begins anew"
        )
    clear_run(folder)
    return named


def holds_run(folder: Path) -> bool:
    """Whether a run has left checkpoints or a model in a folder; a record alone is of one that never got so far."""
    return any(any(folder.glob(pattern)) for pattern in (CHECKPOINTS, MODEL[0]))


def last_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint with the most steps."""
    found = {path.parent for path in folder.glob(f"{CHECKPOINTS}/{TRAINER_STATE_NAME}")}
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def clear_run(folder: Path) -> None:
    """Remove what an earlier run left in a folder: its checkpoints, its model and its records."""
    for checkpoint in folder.glob(CHECKPOINTS):
        shutil.rmtree(checkpoint)
    for pattern in (*LEFT, *MODEL):
        for path in folder.glob(pattern):
            path.unlink()


def _what_changed(folder: Path, record: Record) -> list[str]:
    """Say how the run in a folder differs from this one."""
    before = _read(folder / RECORD)
    return [f"it has no {RECORD}"] if before is None else differences(before, record)


def _checked(checkpoint: Path, record: Record) -> Path:
    """Refuse what is no checkpoint, or one of another run."""
    state = _read(checkpoint / TRAINER_STATE_NAME)
    if state is None:
        raise ValueError(
            f"resume={checkpoint} is no checkpoint, for it holds no {TRAINER_STATE_NAME}; accepted: {AUTO}, {NEVER}, "
            "or a folder such as RUN/checkpoint-100"
        )
    bound = (state.get("stateful_callbacks") or {}).get("BindCheckpoints")
    if bound is None:
        logger.warning("%s does not say of which run it is; whether it is this one is not known", checkpoint)
        return checkpoint
    if changed := differences(bound["args"]["record"], record):
        raise ValueError(
            f"{checkpoint} belongs to another run ({'; '.join(changed)}): repeat its arguments, or begin a new run "
            f"from its weights with --model {checkpoint} and another output_dir"
        )
    return checkpoint


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON file; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
