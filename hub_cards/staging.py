"""Gathering the files to publish in a fresh folder."""

import json
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Left beside the weights by training, evaluation and publication; these files hold pickles, paths and names.
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
# Written by `save_pretrained` of a model in memory.
SAVED_WITH_MODEL = ("*.safetensors", "*.safetensors.index.json", "config.json", "*.py")
CONFIGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
MODELING = Path(__file__).resolve().parents[1] / "modeling"
MODEL_CODE = ("configuration_*.py", "modeling_*.py", "processing_*.py")


def stage(
    source: "str | Path | PreTrainedModel",
    folder: str | Path,
    beside: str | Path | None = None,
    leave_out: Sequence[str] = (),
) -> list[str]:
    """Copy a model's files into an empty folder, and add its code where it is compalign's and not among them.

    Files are copied, not linked: training that continues would change what has been checked.

    Args:
        source (`str`, `Path` or `PreTrainedModel`): Folder of a model or adapter, or a model, which is saved.
        folder (`str` or `Path`): Empty folder.
        beside (`str` or `Path`, *optional*): Folder of the processor, the card and the results of a model in memory.
        leave_out (sequence of `str`): Patterns of names to leave out besides `LEFT_OUT`, as in a shell.

    Returns:
        `list[str]`: what was left out; a folder that was left out is named without its files.

    Raises:
        FileNotFoundError: If a folder does not exist.
        ValueError: If a model comes without `beside` or a folder with it, if a link leads to a folder, or if
            `auto_map` names code that is neither in the folder nor compalign's.
    """
    if isinstance(source, (str, Path)) != (beside is None):
        raise ValueError("beside is the folder of the processor and card of a model in memory; give both or neither")
    if isinstance(source, (str, Path)):
        left_out = copy_files(Path(source), Path(folder), (*LEFT_OUT, *leave_out))
    else:
        source.save_pretrained(folder)
        left_out = copy_files(Path(str(beside)), Path(folder), (*LEFT_OUT, *SAVED_WITH_MODEL, *leave_out))
    add_code(folder)
    return left_out


def list_files(folder: str | Path) -> dict[str, Path]:
    """List the files of a folder and its subfolders in order, by their names on the Hub."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def copy_files(source: Path, folder: Path, leave_out: Sequence[str]) -> list[str]:
    """Copy a folder except for names that match a pattern, and return what was left out."""
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    folder.mkdir(exist_ok=True)
    left = []
    for path in sorted(source.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in leave_out):
            left.append(path.name)
        elif path.is_file():
            shutil.copyfile(path, folder / path.name)
        elif path.is_symlink():
            raise ValueError(f"{path} is a link to a folder, or to nothing; copy its target, or leave it out")
        else:
            left += [f"{path.name}/{name}" for name in copy_files(path, folder / path.name, leave_out)]
    return left


def add_code(folder: str | Path) -> list[str]:
    """Copy the code of our models that a folder's configurations name in `auto_map`, and the files it imports.

    With it the folder loads where compalign is not installed. Files that are already there are kept: they were saved
    with the weights.

    Args:
        folder (`str` or `Path`): Folder with `config.json`, and perhaps the configuration of a processor.

    Returns:
        `list[str]`: names of the files that were added.

    Raises:
        ValueError: If a configuration names a module that is neither in the folder nor one of compalign's models.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    ours = {path.name: path for pattern in MODEL_CODE for path in MODELING.glob(f"*/{pattern}")}
    added = []
    for config in (Path(folder, name) for name in CONFIGS):
        if not config.is_file():
            continue
        for module in sorted(set(_named_modules(json.loads(config.read_text(encoding="utf-8"))))):
            name = f"{module}.py"
            if Path(folder, name).is_file():
                continue
            if name not in ours:
                raise ValueError(
                    f"{config.name}: auto_map names {name}, which is not in the folder; add the file (compalign adds "
                    f"only its own: {', '.join(sorted(ours))})"
                )
            for path in (ours[name], *map(Path, get_relative_import_files(ours[name]))):
                if not Path(folder, path.name).exists():
                    shutil.copyfile(path, Path(folder, path.name))
                    added.append(path.name)
    return added


def _named_modules(config: Any) -> Iterator[str]:
    """Modules that `auto_map` names, at any depth of a configuration; those of other repositories excluded."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key != "auto_map":
            yield from _named_modules(value)
            continue
        for classes in value.values():
            names = classes if isinstance(classes, list) else [classes]  # of tokenizers, two: slow and fast
            yield from (name.rpartition(".")[0] for name in names if name and "--" not in name)
