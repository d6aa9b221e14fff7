"""Measure how fast features come back from a store, against reading the same files from end to end.

    python -m compalign.scripts.benchmark_store --vectors 200000 --output_dir benchmarks/store

The files are read before, so both come from the system's memory: what is measured is the cost of the way, not the disk.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..data.feature_store import FeatureStore
from ..trainers.recipe import parse_recipe
from .benchmark import best_of, publish

ROWS_A_FILE = 4096
CROPS = 21  # features of a picture that ComAlign reads together


@dataclass
class StoreBenchmarkArguments:
    """How much to measure."""

    vectors: int = field(default=100_000, metadata={"help": "Features in the store."})
    width: int = field(default=512, metadata={"help": "Numbers in a feature."})
    batch: int = field(default=4096, metadata={"help": "Features read at a time."})
    repeats: int = field(default=5, metadata={"help": "Measurements of a line; the best counts."})
    output_dir: str | None = field(default=None, metadata={"help": "Folder for benchmark.json; default: print only."})


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measure, print, write."""
    (args,) = parse_recipe(StoreBenchmarkArguments, arguments=arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        figures = read_throughput(fill(FeatureStore(folder, {"benchmark": "store"}), args), args)
    publish(figures, f"{args.vectors} features of {args.width} in float32, {args.batch} at a time", args.output_dir)
    return figures


def fill(store: FeatureStore, args: StoreBenchmarkArguments) -> FeatureStore:
    """Put random features into a store, in files of the size that encoding writes."""
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(args.vectors)]
    for start in range(0, args.vectors, ROWS_A_FILE):
        some = keys[start : start + ROWS_A_FILE]
        store.append(some, torch.randn(len(some), args.width))
    return store


def read_throughput(store: FeatureStore, args: StoreBenchmarkArguments) -> dict[str, float]:
    """Gigabytes a second of plain reading, and of the store with its rows in order, by picture, and one by one."""
    shuffled = np.random.default_rng(0).permutation(args.vectors)
    pictures = np.arange(args.vectors - args.vectors % CROPS).reshape(-1, CROPS)
    orders = {
        "in order": np.arange(args.vectors),
        f"{CROPS} neighbours at random": pictures[np.argsort(shuffled[: len(pictures)])].ravel(),
        "one at random": shuffled,
    }
    files, bytes_a_row = sorted(store.folder.glob("*.safetensors")), args.width * 4
    seconds = best_of(args.repeats, partial(read_files, files, args.batch * bytes_a_row))
    plain = sum(file.stat().st_size for file in files) / 1e9 / seconds
    figures = {"numpy.fromfile, GB/s": plain}
    for name, order in orders.items():
        speed = len(order) * bytes_a_row / 1e9 / best_of(args.repeats, partial(take_all, store, order, args.batch))
        figures |= {f"store, {name}, GB/s": speed, f"store, {name} / numpy.fromfile": speed / plain}
    return figures


def read_files(files: list[Path], piece: int) -> None:
    """Read files from end to end, some bytes at a time."""
    for file in files:
        for offset in range(0, file.stat().st_size, piece):
            np.fromfile(file, dtype=np.uint8, count=piece, offset=offset)


def take_all(store: FeatureStore, order: np.ndarray, batch: int) -> None:
    """Take every feature once."""
    for start in range(0, len(order), batch):
        store.take(order[start : start + batch])


if __name__ == "__main__":
    main()
