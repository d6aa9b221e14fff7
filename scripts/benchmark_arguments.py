"""Benchmarks as the command line names them: which, and where their files are."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download

from ..evaluation import BENCHMARKS, Benchmark

HUB = "hf://datasets/"
SCENES = ["scenes_composition", "scenes_zero_shot", "scenes_retrieval"]


@dataclass
class BenchmarkArguments:
    """What to evaluate on, and how fast."""

    scenes: bool = field(default=False, metadata={"help": "Evaluate on generated scenes."})
    benchmarks: list[str] = field(
        default_factory=list,
        metadata={"help": "Others, as NAME:ARGUMENT=VALUE,...: sugarcrepe:annotations=FOLDER,images=FOLDER"},
    )
    cache: str | None = field(default=None, metadata={"help": "Folder that remembers features for later evaluations."})
    batch_size: int = field(default=256, metadata={"help": "Images, and texts, a forward pass."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode images."})


def requested(args: BenchmarkArguments) -> list[Benchmark]:
    """The benchmarks that the arguments ask for.

    Raises:
        ValueError: If there is none, or a benchmark or one of its arguments is unknown or missing.
    """
    benchmarks = [BENCHMARKS[name]() for name in SCENES if args.scenes]
    benchmarks += [make_benchmark(text) for text in args.benchmarks]
    if not benchmarks:
        raise ValueError("nothing to evaluate on: give --scenes true or --benchmarks NAME:ARGUMENT=VALUE,...")
    return benchmarks


def make_benchmark(text: str) -> Benchmark:
    """Build a benchmark from its name and arguments.

    Args:
        text (`str`): Such as `sugarcrepe:annotations=sugar-crepe/data,images=coco/val2017,minimum_coverage=0.9`; values
            are read as YAML has them. One that begins with `hf://datasets/` is brought from the Hub, see `at_hand`.

    Raises:
        ValueError: If the benchmark or an argument is unknown, or one is missing.
    """
    name, _, rest = text.partition(":")
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}; must be one of {', '.join(BENCHMARKS)}")
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    given = {key: at_hand(yaml.safe_load(value)) for key, _, value in pairs}
    signature = inspect.signature(BENCHMARKS[name])
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ValueError(
            f"{text}: {error}; {name} takes {', '.join(map(str, signature.parameters.values()))}"
        ) from error
    return BENCHMARKS[name](**given)


def at_hand(value: Any) -> Any:
    """Bring what a value names on the Hub to this machine, once; other values stay as they are.

    Args:
        value: A file or folder of a data set, as `hf://datasets/OWNER/NAME[@REVISION][/PATH]`, or anything else.

    Returns:
        `str`, the local file or folder, or the value.
    """
    if not (isinstance(value, str) and value.startswith(HUB)):
        return value
    owner, name, *path = value.removeprefix(HUB).split("/")
    name, _, revision = name.partition("@")
    inside = "/".join(path)
    wanted = [inside, f"{inside}/*"] if inside else None
    folder = snapshot_download(f"{owner}/{name}", repo_type="dataset", revision=revision or None, allow_patterns=wanted)
    return str(Path(folder, inside))
