"""What must be on the disk before anything relies on it."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Ask the system to write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
