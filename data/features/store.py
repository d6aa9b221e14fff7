"""Stores of features by content key: in memory, or in files that are written completely and checked when opened."""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..disk import flush

logger = logging.getLogger(__name__)

STORED_TYPES = (torch.float32, torch.float16)
# Rows copied at a time: few enough that the gathered rows are still in the processor's cache when they are placed.
_BLOCK_ROWS = 2048
_KEY_LENGTH = 64


class Features:
    """Vectors by key, kept in memory. Each key has one vector.

    A key is the hex SHA-256 of the content that the vector was computed from. Vectors are numbered by row, in the order
    of arrival. Row numbers never change, so a data loader can look up its keys once and then `take` rows.

    Example:

        >>> import hashlib
        >>> keys = [hashlib.sha256(text.encode()).hexdigest() for text in ("a dog", "a cat")]
        >>> features = Features()
        >>> features.append(keys, torch.eye(2))
        >>> features.rows(keys)
        array([0, 1])
        >>> features.read(keys[1:])
        tensor([[0., 1.]])
    """

    def __init__(self):
        self._rows: dict[str, int] = {}
        self._parts: list[np.ndarray] = []
        self._starts = np.empty(0, dtype=np.int64)  # row number of each part's first vector
        self._end = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the distinct keys without a vector, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def append(self, keys: Sequence[str], features: Tensor) -> None:
        """Add vectors. A key that already has a vector keeps it.

        Args:
            keys (`Sequence[str]`): Hex SHA-256 of the content of each vector.
            features (`torch.Tensor` of shape `(keys, dim)`): Finite numbers.

        Raises:
            ValueError: If the numbers of keys and vectors differ, a number is not finite, or the width differs from
                that of earlier vectors.
        """
        self._check(keys, features)
        self._add(keys, features.detach().float().cpu().numpy())

    def rows(self, keys: Sequence[str]) -> np.ndarray:
        """Look up the rows of keys.

        Args:
            keys (`Sequence[str]`): Keys in any order, with any repetitions.

        Returns:
            `numpy.ndarray` of shape `(keys,)`: int64 row numbers for `take`.

        Raises:
            ValueError: If a key has no vector. The message counts such keys and names the first.
        """
        missing = self.missing(keys)
        if missing:
            raise ValueError(f"{len(missing)} of {len(keys)} keys have no features, the first is {missing[0]!r}")
        return np.fromiter((self._rows[key] for key in keys), dtype=np.int64, count=len(keys))

    def take(self, rows: np.ndarray) -> Tensor:
        """Copy the vectors of rows.

        Args:
            rows (`numpy.ndarray` of shape `(n,)`): Row numbers from `rows`.

        Returns:
            `torch.Tensor` of shape `(n, dim)`: float32 vectors.

        Raises:
            ValueError: If there is no such row.
        """
        if not len(rows):
            return torch.empty(0, self._parts[0].shape[1] if self._parts else 0)
        if rows.min() < 0 or rows.max() >= self._end:
            raise ValueError(f"rows {rows.min()} to {rows.max()}; this store has rows 0 to {self._end - 1}")
        taken = np.empty((len(rows), self._parts[0].shape[1]), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            self._copy(rows[start : start + _BLOCK_ROWS], taken[start : start + _BLOCK_ROWS])
        return torch.from_numpy(taken)

    def read(self, keys: Sequence[str]) -> Tensor:
        """Return the vectors of keys.

        Args:
            keys (`Sequence[str]`): Keys in any order, with any repetitions.

        Returns:
            `torch.Tensor` of shape `(keys, dim)`: float32 vectors.

        Raises:
            ValueError: If a key has no vector.
        """
        return self.take(self.rows(keys))

    def _copy(self, rows: np.ndarray, target: np.ndarray) -> None:
        """Copy the vectors of rows: gather them in the order of storage, then put them in place."""
        ascending = bool((rows[1:] > rows[:-1]).all())
        order = slice(None) if ascending else np.argsort(rows, kind="stable")
        rows = rows[order]
        straight = ascending and self._parts[0].dtype == target.dtype
        gathered = target if straight else np.empty(target.shape, dtype=self._parts[0].dtype)
        low, high = np.searchsorted(self._starts, rows[[0, -1]], side="right") - 1
        edges = [0, *np.searchsorted(rows, self._starts[low + 1 : high + 1]).tolist(), len(rows)]
        for part, (first, last) in enumerate(pairwise(edges), start=low):
            vectors, within = self._parts[part], rows[first:last] - self._starts[part]
            if ascending and first < last and within[-1] - within[0] == last - first - 1:
                gathered[first:last] = vectors[within[0] : within[-1] + 1]
            else:
                # mode="clip" avoids a copy that the other modes make. `take` has checked the rows.
                np.take(vectors, within, axis=0, out=gathered[first:last], mode="clip")
        if not straight:
            target[order] = gathered

    def _add(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Number the vectors of a part. A repeated key keeps its first vector."""
        for row, key in enumerate(keys, start=self._end):
            self._rows.setdefault(key, row)
        self._parts.append(features)
        self._starts = np.append(self._starts, self._end)
        self._end += len(features)

    def _check(self, keys: Sequence[str], features: Tensor) -> None:
        """Check that vectors match their keys, are finite, and have the width of earlier vectors."""
        if features.ndim != 2 or len(features) != len(keys):
            raise ValueError(f"{len(keys)} keys with features of shape {tuple(features.shape)}; must be (keys, dim)")
        if self._parts and features.shape[1] != self._parts[0].shape[1]:
            raise ValueError(f"features of width {features.shape[1]}; the store holds width {self._parts[0].shape[1]}")
        odd = next((key for key in keys if len(key) != _KEY_LENGTH), None)
        if odd is not None:
            raise ValueError(f"key {odd!r}; must be a hex SHA-256, {_KEY_LENGTH} characters")
        broken = features.isfinite().all(dim=1).logical_not().nonzero().flatten().tolist()
        if broken:
            raise ValueError(f"{len(broken)} of {len(keys)} vectors are not finite, first that of {keys[broken[0]]!r}")


class FeatureStore(Features):
    """Vectors by key, kept in a folder for every later run of the same encoder.

    Each `append` writes one safetensors file of `keys (n, 32)` and `features (n, dim)`, completely or not at all, under
    a unique name. Several processes may append at once; each finds the files of the others when it calls `missing`.
    Files are memory-mapped, not loaded. A damaged file is renamed to `.broken` with a warning, and its keys are missing
    again.

    Features of different encoders are never mixed: each fingerprint has its own folder, which records it in
    `fingerprint.json`.

    Example:

    ```python
    store = FeatureStore("features", {"weights": "9f2c...", "dtype": "float32"})
    store.append(keys, model.get_image_features(pixel_values).pooler_output)
    ```

    Args:
        folder (`str` or `Path`): Folder of the folders of all fingerprints.
        fingerprint (`dict`): Everything that the vectors depend on besides their key, as JSON values; see
            `compalign.data.features.fingerprint.encoder_fingerprint`.
        dtype (`torch.dtype`): Data type of the stored vectors, float32 or float16. It is part of the fingerprint.

    Attributes:
        folder (`Path`): The folder of this fingerprint.
        fingerprint (`dict`): The fingerprint, including the data type.

    Raises:
        ValueError: If `dtype` is not accepted, or the folder records a different fingerprint.
    """

    def __init__(self, folder: str | Path, fingerprint: dict[str, Any], dtype: torch.dtype = torch.float32):
        super().__init__()
        if dtype not in STORED_TYPES:
            raise ValueError(f"dtype {dtype}; must be one of {', '.join(map(str, STORED_TYPES))}")
        self.dtype = dtype
        self.fingerprint = json.loads(json.dumps({**fingerprint, "stored as": str(dtype).removeprefix("torch.")}))
        canonical = json.dumps(self.fingerprint, sort_keys=True)
        self.folder = Path(folder) / hashlib.sha256(canonical.encode()).hexdigest()[:16]
        self._files: dict[str, None] = {}  # names, in the order of their row numbers
        self._claim()
        self.refresh()

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the distinct keys without a vector, in their order. Files written by other processes count."""
        keys = super().missing(keys)
        if keys:
            self.refresh()
        return super().missing(keys)

    def append(self, keys: Sequence[str], features: Tensor) -> None:
        """Write vectors into a new file, and return once they are on the disk.

        Args:
            keys (`Sequence[str]`): Hex SHA-256 of the content of each vector.
            features (`torch.Tensor` of shape `(keys, dim)`): Numbers that are finite in the stored type.

        Raises:
            ValueError: If the numbers of keys and vectors differ, a number is not finite, or the width differs from
                that of earlier vectors.
        """
        features = features.detach().to("cpu", self.dtype).contiguous()
        self._check(keys, features)
        if not keys:
            return
        digests = torch.frombuffer(bytearray.fromhex("".join(keys)), dtype=torch.uint8).view(len(keys), -1)
        # Names sort by time. The number of vectors says what is lost if a file is damaged.
        path = self.folder / f"{time.time_ns():020d}-{len(keys)}-{uuid.uuid4().hex[:8]}.safetensors"
        with _published(path) as part:
            save_file({"keys": digests, "features": features}, part)
        self._open(path)

    def refresh(self) -> None:
        """Open the files that appeared since the last call."""
        new = [path for path in sorted(self.folder.glob("*-*-*.safetensors")) if path.name not in self._files]
        damaged = [path for path in new if not self._open(path)]
        if damaged:
            lost = sum(int(path.name.split("-")[1]) for path in damaged)
            for path in damaged:
                with suppress(FileNotFoundError):  # another process renamed it first
                    path.rename(path.with_suffix(".broken"))
            names = ", ".join(path.name for path in damaged)
            logger.warning(
                "%s: damaged and renamed to .broken: %s; their %d features are missing", self.folder, names, lost
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to map the same files, without the vectors."""
        return {name: vars(self)[name] for name in ("dtype", "fingerprint", "folder", "_files")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files in their original order, so that rows keep their numbers."""
        super().__init__()
        vars(self).update(state, _files={})
        for name in state["_files"]:
            if not self._open(self.folder / name):
                raise ValueError(f"{self.folder / name} was damaged after this store was opened")

    def _open(self, path: Path) -> bool:
        """Map a file and number its vectors. Return False if the file is damaged."""
        try:
            with safe_open(path, "pt") as file:
                digests, features = file.get_tensor("keys").numpy(), file.get_tensor("features").numpy()
        except SafetensorError:
            return False
        text = digests.tobytes().hex()
        self._add([text[start : start + _KEY_LENGTH] for start in range(0, len(text), _KEY_LENGTH)], features)
        self._files[path.name] = None
        return True

    def _claim(self) -> None:
        """Record the fingerprint in the folder, or compare it with the recorded one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "fingerprint.json"
        if not path.exists():
            with _published(path) as part:
                part.write_text(json.dumps(self.fingerprint, indent=1) + "\n", encoding="utf-8")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); remove its folder to encode again") from error
        if found != self.fingerprint:
            raise ValueError(
                f"{path} records features of {json.dumps(found)}, not of {json.dumps(self.fingerprint)}; remove its "
                "folder to encode again"
            )


@contextmanager
def _published(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write. It gets its final name only once it is on the disk."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        flush(part)
        part.rename(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)
