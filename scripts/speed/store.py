"""Features from a store against plain reading of the same files.

Both come from the system's memory: the overhead is measured, not the disk.
"""

import hashlib
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...data.features.store import FeatureStore
from . import StoreSpeedArguments
from .timing import best_of, report_figures

ROWS_PER_FILE = 4096
CROPS = 21  # features of one picture, which ComAlign reads together


def run(args: StoreSpeedArguments) -> dict[str, float]:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as folder:
        figures = read_throughput(fill(FeatureStore(folder, {"purpose": "speed"}), args), args)
    setting = f"{args.vectors} features of {args.width} numbers in float32, {args.batch} per read"
    report_figures(figures, setting, args.output_dir)
    return figures


def fill(store: FeatureStore, args: StoreSpeedArguments) -> FeatureStore:
    """Put random features into a store, in files as large as those of encoding."""
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(args.vectors)]
    for start in range(0, args.vectors, ROWS_PER_FILE):
        some = keys[start : start + ROWS_PER_FILE]
        store.append(some, torch.randn(len(some), args.width))
    return store


def read_throughput(store: FeatureStore, args: StoreSpeedArguments) -> dict[str, float]:
    """Measure gigabytes per second of plain reading, and of the store in order, by picture and one by one."""
    shuffled = np.random.default_rng(0).permutation(args.vectors)
    pictures = np.arange(args.vectors - args.vectors % CROPS).reshape(-1, CROPS)
    orders = {
        "in order": np.arange(args.vectors),
        f"{CROPS} neighbours at random": pictures[np.argsort(shuffled[: len(pictures)])].ravel(),
        "one at random": shuffled,
    }
    files, bytes_per_row = sorted(store.folder.glob("*.safetensors")), args.width * 4
    seconds = best_of(args.repeats, partial(read_files, files, args.batch * bytes_per_row))
    plain = sum(file.stat().st_size for file in files) / 1e9 / seconds
    figures = {"numpy.fromfile, GB/s": plain}
    for name, order in orders.items():
        speed = len(order) * bytes_per_row / 1e9 / best_of(args.repeats, partial(take_all, store, order, args.batch))
        figures |= {f"store, {name}, GB/s": speed, f"store, {name} / numpy.fromfile": speed / plain}
    return figures


def read_files(files: list[Path], piece: int) -> None:
    """Read files from end to end, `piece` bytes at a time."""
    for file in files:
        for offset in range(0, file.stat().st_size, piece):
            np.fromfile(file, dtype=np.uint8, count=piece, offset=offset)


def take_all(store: FeatureStore, order: np.ndarray, batch: int) -> None:
    """Take every feature once."""
    for start in range(0, len(order), batch):
        store.take(order[start : start + batch])
