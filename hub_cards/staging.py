"""Gathering what shall be published in a fresh folder."""

import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What training, evaluation and publication leave beside the weights: it holds pickles, paths and names.
LEFT_OUT = (
    ".*",
    "__pycache__",
    "checkpoint-*",
    "global_step*",
    "latest",
    "zero_to_fp32.py",
    "runs",
    "training_args.bin",
    "optimizer.*",
    "scheduler.*",
    "scaler.*",
    "rng_state*",
    "trainer_state.json",
    "*_results.json",
    "run.json",
    "rows.jsonl",
    "publication.json",
)
# What a model in memory brings itself.
SAVED_WITH_MODEL = ("*.safetensors", "*.safetensors.index.json", "config.json", "*.py")


def stage(
    source: "str | Path | PreTrainedModel",
    folder: str | Path,
    beside: str | Path | None = None,
    leave_out: Sequence[str] = (),
) -> list[str]:
    """Copy a model's files into an empty folder.

    Copies, and not links: training that goes on would change what has been checked.

    Args:
        source (`str`, `Path` or `PreTrainedModel`): Folder of a model or adapter, or a model, which is saved.
        folder (`str` or `Path`): Empty folder.
        beside (`str` or `Path`, optional): Folder of the processor, the card and the results of a model in memory.
        leave_out (sequence of `str`): Patterns of names to leave out besides `LEFT_OUT`, as in a shell.

    Returns:
        `list[str]`: what was left out; a folder is named by itself alone.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a model comes without `beside` or a folder with it, or where a link leads to a folder.
    """
    in_memory = not isinstance(source, (str, Path))
    if in_memory != (beside is not None):
        raise ValueError("beside is the folder of the processor and the card of a model in memory, and of no other")
    if in_memory:
        source.save_pretrained(folder)
        return copy_files(Path(beside), Path(folder), (*LEFT_OUT, *SAVED_WITH_MODEL, *leave_out))
    return copy_files(Path(source), Path(folder), (*LEFT_OUT, *leave_out))


def list_files(folder: str | Path) -> dict[str, Path]:
    """The files of a folder and of those in it, by their names on the Hub, in order."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def copy_files(source: Path, folder: Path, leave_out: Sequence[str]) -> list[str]:
    """Copy a folder but for the names that match a pattern, and return what was left out."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder")
    folder.mkdir(exist_ok=True)
    left = []
    for path in sorted(source.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in leave_out):
            left.append(path.name)
        elif path.is_file():
            shutil.copyfile(path, folder / path.name)
        elif path.is_symlink():
            raise ValueError(f"{path} is a link to a folder, or to nothing; copy what it means, or leave it out")
        else:
            left += [f"{path.name}/{name}" for name in copy_files(path, folder / path.name, leave_out)]
    return left
