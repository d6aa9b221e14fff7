"""Timing a run, and the report of what was measured."""

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch


def report_figures(figures: dict[str, float], setting: str, output_dir: str | None) -> None:
    """Print figures below the machine, the versions and the setting that they belong to; write them as speed.json.

    Args:
        figures (`dict[str, float]`): Each with its unit in its name.
        setting (`str`): Model, batch and other sizes.
        output_dir (`str`, *optional*): Folder of speed.json; without it the figures are only printed.
    """
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    versions = f"torch {version('torch')}, transformers {version('transformers')}"
    setting = f"{machine}, {torch.get_num_threads()} threads, {versions}, {setting}"
    width = 2 + max(map(len, figures))
    print("\n".join([setting, *(f"{name:<{width}}{value:>12.4g}" for name, value in figures.items())]))
    if output_dir is not None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "speed.json").write_text(
            json.dumps({"setting": setting, "figures": figures}, indent=1) + "\n", encoding="utf-8"
        )


def timed(run: Callable[[], None]) -> float:
    """Return the wall time of a run in seconds, with everything that it has started on a GPU."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_of(repeats: int, run: Callable[[], None]) -> float:
    """Return the shortest wall time of a run in seconds, after a first run that warms up."""
    return min([timed(run) for _ in range(repeats + 1)][1:])
