"""Reading checkpoints without running code in them, and without loading more than is asked for."""

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PIECE = 1 << 24  # bytes read at a time
UNSAFE = (
    "{path} holds more than tensors and plain values (it names {reason}): reading it could run its author's code, so "
    "nothing was run. Ask for a safetensors file. Or, if you trust the file, load it on an isolated machine, save "
    'checkpoint["state_dict"] with safetensors, and convert that file'
)


class Place(NamedTuple):
    """Place of a tensor: a file, and its name in the file."""

    path: Path
    name: str


@dataclass(frozen=True)
class Checkpoint:
    """The names, shapes and places of a checkpoint's tensors; their values stay on disk until they are read.

    Args:
        places (`dict[str, Place]`): By name.
        shapes (`dict[str, torch.Tensor]`): Meta tensors by name, with shape and dtype.
        about (`dict`): Epoch and name, if a training checkpoint states them beside its weights.
    """

    places: dict[str, Place]
    shapes: dict[str, Tensor]
    about: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors."""
        return sorted({place.path for place in self.places.values()})

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Map tensors into memory. Each call opens the files anew, so memory is freed with the tensors.

        Args:
            names (iterable of `str`): Names of the tensors.
        """
        stored: dict[Path, dict[str, str]] = {}
        for name in names:
            path, stored_name = self.places[name]
            stored.setdefault(path, {})[name] = stored_name
        return {name: tensor for path, here in stored.items() for name, tensor in _read_file(path, here).items()}

    def only(self, stored: Mapping[str, str]) -> "Checkpoint":
        """Select tensors and rename them.

        Args:
            stored (mapping of `str` to `str`): Current name by new name.
        """
        return Checkpoint(
            {new: self.places[old] for new, old in stored.items()},
            {new: self.shapes[old] for new, old in stored.items()},
            self.about,
        )

    def with_tensors_of(self, other: "Checkpoint") -> "Checkpoint":
        """Both checkpoints' tensors as one."""
        return Checkpoint({**self.places, **other.places}, {**self.shapes, **other.shapes}, self.about)


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Open a checkpoint: one file, or a folder with one file or with shards and their index.

    Pickles are loaded with `weights_only=True`, which builds tensors and plain values and runs no other code.

    Args:
        source (`str` or `Path`): A .safetensors, .pt, .pth or .bin file, or a folder.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: If there is no such file, or a shard is missing.
        ValueError: If a file would run code, is damaged or holds no weights; if a folder has no candidate or several.
    """
    source = Path(source)
    index = next((source / name for name in INDICES if (source / name).is_file()), None)
    if index is not None:
        return _open_shards(index)
    path = _weights_of(source) if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    shapes, about = _look_at(path)
    return Checkpoint({name: Place(path, name) for name in shapes}, shapes, about)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; the file is read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _weights_of(folder: Path) -> Path:
    """The file of weights in a folder: one with a usual name, or the only one."""
    usual = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    found = usual[:1] or sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"{folder} must hold {' or '.join((*INDICES, *WEIGHTS))}, or one file *{', *'.join(SUFFIXES)}; "
            f"found: {names}"
        )
    return found[0]


def _open_shards(index: Path) -> Checkpoint:
    """The checkpoint whose shards an index lists."""
    shard_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    places, shapes = {}, {}
    for shard in dict.fromkeys(shard_of.values()):
        path = index.parent / shard
        if Path(shard).name != shard or not path.is_file():
            raise FileNotFoundError(f"{index} lists the shard {shard}, which is no file beside it")
        found, _ = _look_at(path)
        lost = [name for name, other in shard_of.items() if other == shard and name not in found]
        if lost:
            raise ValueError(f"{index} lists tensors of {shard} that are not in it: {', '.join(lost)}")
        shapes |= found
        places |= {name: Place(path, name) for name in found}
    return Checkpoint(places, shapes, {})


def _look_at(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Shapes of the tensors in a file, and epoch and name if it states them."""
    if path.suffix != ".safetensors":
        return _unwrap(_unpickle(path, "meta"), path)
    with _open_safetensors(path) as file:
        metadata = file.metadata() or {}
        # Mapped, not read: moving to "meta" touches no byte of the values.
        shapes = {name: file.get_tensor(name).to("meta") for name in file.keys()}  # noqa: SIM118
    return shapes, {name: metadata[name] for name in ("epoch", "name") if name in metadata}


def _read_file(path: Path, stored: dict[str, str]) -> dict[str, Tensor]:
    """Tensors of one file, by new name."""
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:
            return {new: file.get_tensor(name) for new, name in stored.items()}
    weights, _ = _unwrap(_unpickle(path, "cpu"), path)
    return {new: weights[name] for new, name in stored.items()}


def _open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file; an error names it."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error


def _unpickle(path: Path, device: str) -> Any:
    """Content of a pickle that holds only tensors and plain values."""
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped; they are read as a whole.
        return torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(UNSAFE.format(path=path, reason=named.group(1) if named else "no weights")) from error
    except (RuntimeError, EOFError) as error:  # a damaged archive, or a TorchScript program
        raise ValueError(f"{path} cannot be read as weights: {error}") from error


def _unwrap(loaded: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a training checkpoint or of a plain state dict, and epoch and name."""
    outer = loaded if isinstance(loaded, dict) else {}
    weights = outer.get("state_dict", outer)
    strangers = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if not weights or strangers:
        held = ", ".join(map(str, strangers[:5])) if strangers else "nothing"
        raise ValueError(
            f"{path} is no state dict and holds no state dict under 'state_dict'; besides tensors it holds {held}"
        )
    about = {name: outer[name] for name in ("epoch", "name") if name in outer}
    return {name: tensor.detach() for name, tensor in weights.items()}, about
