"""One configuration system: dataclasses, filled from a YAML recipe with flags on top."""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser


def parse_recipe(*dataclasses_: type, arguments: Sequence[str] | None = None, description: str = "") -> tuple[Any, ...]:
    """Fill dataclasses from `--config recipe.yaml` and flags; a flag beats the recipe, the recipe beats the default.

    A recipe is a command line written down: its values are converted and checked as those of the flags are.

    Args:
        dataclasses_ (`type`): Dataclasses whose fields are the accepted keys.
        arguments (`Sequence[str]`, *optional*): Command line without the program; default: this process's.
        description (`str`): What `--help` says first.

    Returns:
        `tuple`: one instance a dataclass.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the recipe is no mapping; if a key or flag is unknown, and the nearest known one is named; if a
            value is missing or not of its kind.
    """
    kinds = {name: kind for fields in map(_field_kinds, dataclasses_) for name, kind in fields.items()}
    parser = _RecipeParser(
        dataclasses_, description=description, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", help="YAML recipe; flags on the command line beat it.")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    config = _config_path(arguments)
    if config is not None:
        recipe = _read_recipe(config)
        _check_names(recipe, kinds, f"recipe {config}")
        flags, defaults = _as_flags(recipe, kinds, f"recipe {config}")
        parser.set_defaults(**defaults)
        arguments = [*flags, *arguments]
    *filled, _, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    _check_names([flag.lstrip("-").split("=")[0] for flag in unknown if flag.startswith("--")], kinds, "command line")
    if unknown:
        raise ValueError(f"command line: {' '.join(unknown)} belongs to no flag")
    return tuple(filled)


class _RecipeParser(HfArgumentParser):
    """Says what is wrong, without the usage of a hundred flags in front of it."""

    def error(self, message: str) -> None:
        raise ValueError(message)


def _field_kinds(dataclass_: type) -> dict[str, Any]:
    """The annotations of the fields to fill."""
    hints = get_type_hints(dataclass_)
    return {item.name: hints[item.name] for item in dataclasses.fields(dataclass_) if item.init}


def _config_path(arguments: Sequence[str]) -> str | None:
    """The recipe named on the command line."""
    finder = _RecipeParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    return finder.parse_known_args(arguments)[0].config


def _read_recipe(path: str) -> dict[str, Any]:
    """The recipe's keys and values."""
    try:
        recipe = yaml.safe_load(Path(path).read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe {path} must be a mapping of keys to values, got {type(recipe).__name__}")
    return recipe


def _check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse an unknown key; a typo must not silently train something else."""
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{where}: unknown key {name!r}; the nearest known one is {nearest!r}")


def _as_flags(recipe: dict[str, Any], kinds: dict[str, Any], where: str) -> tuple[list[str], dict[str, Any]]:
    """A recipe as flags, and beside them the values that no flag can say: null, mappings, lists in place of a word."""
    flags, defaults = [], {}
    for name, value in recipe.items():
        kind = kinds[name]
        alternatives = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        accepted = {get_origin(item) or item for item in alternatives}
        if not isinstance(value, (dict, list, NoneType)):
            flags.append(f"--{name}={_as_word(value)}")
        elif isinstance(value, list) and accepted <= {list, NoneType}:
            flags += [f"--{name}", *map(_as_word, value)]
        elif type(value) in accepted:
            defaults[name] = value
        else:
            raise ValueError(f"{where}: {name} is {value!r}; accepted: {kind}")
    return flags, defaults


def _as_word(value: Any) -> str:
    """A plain value as the command line says it; YAML takes the `no` of `save_strategy: no` for false."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
