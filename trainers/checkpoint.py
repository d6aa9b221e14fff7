"""Checkpoints that exist whole or not at all."""

import os
import shutil
from pathlib import Path

from ..data.disk import flush

STAGING = ".saving-checkpoint"  # hidden, so that no search for "checkpoint-*" can take it for a finished one


def clear_staging(staging: str) -> None:
    """Make an empty staging folder; what an interrupted save left there is removed."""
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging)


def publish(staged: str, final: str) -> None:
    """Flush a staged checkpoint to the disk and give it its final name in one step.

    Args:
        staged (`str`): Folder with the complete checkpoint, on the same file system as `final`.
        final (`str`): Where it belongs. An older folder of that name is replaced.
    """
    for path in Path(staged).rglob("*"):
        if path.is_file():
            flush(path)
    replaced = Path(staged).with_name(f"{STAGING}-replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if os.path.exists(final):
        os.rename(final, replaced)
    os.rename(staged, final)
    flush(Path(final).parent)
    shutil.rmtree(replaced, ignore_errors=True)
