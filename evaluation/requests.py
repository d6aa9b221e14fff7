"""Benchmarks by name: `"sugarcrepe:annotations=FOLDER,images=FOLDER"`, with files on disk or on the Hub."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download

from .benchmarks import BENCHMARKS, Benchmark

HUB = "hf://datasets/"
SCENES = ["scenes_composition", "scenes_zero_shot", "scenes_retrieval"]


def requested_benchmarks(benchmarks: Sequence[str], scenes: bool = False) -> list[Benchmark]:
    """Build the benchmarks that a command line asks for.

    Args:
        benchmarks (sequence of `str`): Names with arguments; see `make_benchmark`.
        scenes (`bool`): Whether the benchmarks of generated scenes come first.

    Returns:
        `list[Benchmark]`

    Raises:
        ValueError: If there is no benchmark, a name or an argument is unknown, an argument is missing, or two
            benchmarks have the same name.
    """
    requested = [*(SCENES if scenes else []), *benchmarks]
    if not requested:
        raise ValueError("nothing to evaluate on: give --scenes or --benchmarks NAME:ARGUMENT=VALUE,...")
    return build_benchmarks(requested)


def build_benchmarks(benchmarks: Sequence[str | Benchmark]) -> list[Benchmark]:
    """Build the benchmarks that are given by name, and refuse equal names.

    Args:
        benchmarks (sequence of `str` or `Benchmark`): Benchmarks, or names with arguments; see `make_benchmark`.

    Returns:
        `list[Benchmark]`

    Raises:
        ValueError: If there is no benchmark, a name or an argument is unknown, an argument is missing, or two
            benchmarks have the same name.
    """
    if not benchmarks:
        raise ValueError(f"benchmarks []; must be some of {', '.join(BENCHMARKS)}")
    for benchmark in benchmarks:
        if isinstance(benchmark, str):
            _check_name(benchmark)
    built = [make_benchmark(benchmark) if isinstance(benchmark, str) else benchmark for benchmark in benchmarks]
    names = [benchmark.name for benchmark in built]
    if len(set(names)) < len(names):
        raise ValueError(f"benchmarks {', '.join(names)}; each name may occur once")
    return built


def make_benchmark(text: str) -> Benchmark:
    """Build a benchmark from its name and arguments.

    Args:
        text (`str`): Such as `sugarcrepe:annotations=sugar-crepe/data,images=coco/val2017,minimum_coverage=0.9`. Values
            are read as YAML. A value that begins with `hf://datasets/` is fetched; see `fetch_from_hub`.

    Returns:
        `Benchmark`

    Raises:
        ValueError: If the benchmark or an argument is unknown, or an argument is missing.
    """
    name = _check_name(text)
    rest = text.partition(":")[2]
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    given = {key: yaml.safe_load(value) for key, _, value in pairs}
    signature = inspect.signature(BENCHMARKS[name])
    try:
        signature.bind(**given)
    except TypeError as error:
        accepted = ", ".join(map(str, signature.parameters.values()))
        raise ValueError(f"benchmark {text}: {error}; {name} accepts {accepted}") from error
    return BENCHMARKS[name](**{key: fetch_from_hub(value) for key, value in given.items()})


def fetch_from_hub(value: Any) -> Any:
    """Download the file or folder of a dataset that a value names, unless it is in the cache.

    Args:
        value: `hf://datasets/OWNER/NAME[@REVISION][/PATH]`, or anything else.

    Returns:
        `str`, the local file or folder; any other value is returned as it is.
    """
    if not (isinstance(value, str) and value.startswith(HUB)):
        return value
    owner, name, *path = value.removeprefix(HUB).split("/")
    name, _, revision = name.partition("@")
    inside = "/".join(path)
    wanted = [inside, f"{inside}/*"] if inside else None
    folder = snapshot_download(f"{owner}/{name}", repo_type="dataset", revision=revision or None, allow_patterns=wanted)
    return str(Path(folder, inside))


def _check_name(text: str) -> str:
    """Return the name of a benchmark; refuse one that is unknown."""
    name = text.partition(":")[0]
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}; must be one of {', '.join(BENCHMARKS)}")
    return name
