"""One configuration system: dataclasses, filled from a YAML recipe with flags on top.

Nothing here imports transformers: a command that trains nothing answers `--help` at once.
"""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml

from .help_page import help_page

REPLACED = {"resume_from_checkpoint": "resume"}  # flags of the Trainer's that are not read here, and what is
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def parse_recipe(
    *dataclasses_: type, arguments: Sequence[str] | None = None, description: str = "", command: str | None = None
) -> tuple[Any, ...]:
    """Fill dataclasses from `--config recipe.yaml` and flags; a flag beats the recipe, the recipe beats the default.

    A recipe is a command line written down: its values are converted and checked as those of the flags are. A boolean
    is a switch: `--scenes` or `--no_scenes`; `--scenes true` is accepted too, and `-` in place of `_`.

    Args:
        dataclasses_ (`type`): Dataclasses whose fields are the accepted keys. `GROUP`, a class attribute, is the title
            of their fields in the help; a field's metadata may have a `group` of its own.
        arguments (`Sequence[str]`, *optional*): Command line without the program; default: this process's.
        description (`str`): What `--help` says first.
        command (`str`, *optional*): How the help calls the command, such as `compalign score`; default: the program.

    Returns:
        `tuple`: one instance per dataclass.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the recipe is no mapping; if a key or flag is unknown, and the nearest known one is named; if a
            value is missing or of the wrong type.
    """
    arguments = [_with_underscores(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    hints = {name: hint for dataclass_ in dataclasses_ for name, hint in _field_types(dataclass_).items()}
    if {"-h", "--help"} & set(arguments):
        print(help_page(dataclasses_, hints, description, command or f"python {sys.argv[0]}"))
        raise SystemExit(0)
    parser = _make_parser(hints)
    config = parser.parse_known_args(arguments)[0].config if "config" not in hints else None
    given: dict[str, Any] = {}
    if config is not None:
        given, flags = _as_flags(_read_recipe(config), hints, f"recipe {config}")
        arguments = [*flags, *arguments]
    found, unknown = parser.parse_known_args(arguments)
    _check_names([word[2:].split("=")[0] for word in unknown if word.startswith("--")], hints, "command line")
    if unknown:
        raise ValueError(f"command line: {' '.join(unknown)} belongs to no flag")
    given |= {name: value for name, value in vars(found).items() if name != "config" or name in hints}
    return tuple(_fill(dataclass_, given) for dataclass_ in dataclasses_)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong, without the usage of a hundred flags in front of it."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _field_types(dataclass_: type) -> dict[str, Any]:
    """The annotations of the fields to fill."""
    hints = get_type_hints(dataclass_)
    names = [item.name for item in dataclasses.fields(dataclass_) if item.init]
    return {name: hints[name] for name in names if REPLACED.get(name) not in names}


def _make_parser(hints: dict[str, Any]) -> _Parser:
    """A parser that returns what is given and no defaults."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", default=None)
    for name, hint in hints.items():
        if bool in alternatives(hint):
            parser.add_argument(f"--{name}", nargs="?", const=True, type=_boolean)
            parser.add_argument(f"--no_{name}", dest=name, action="store_false")
        else:
            parser.add_argument(f"--{name}", **_conversion(hint))
    return parser


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of which a value may be, None left out."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(member for member in members if member is not NoneType)


def _conversion(hint: Any) -> dict[str, Any]:
    """How argparse turns the words after a flag into a value."""
    members = alternatives(hint)
    for member in members:
        if get_origin(member) is Literal:
            return {"choices": get_args(member)}
        if isinstance(member, type) and issubclass(member, Enum):
            return {"choices": [choice.value for choice in member]}
    if all(get_origin(member) is list for member in members):
        return {"nargs": "+", "type": get_args(members[0])[0]}
    plain = [member for member in members if member in (int, float, str)]
    return {"type": plain[0] if plain else str}


def _boolean(word: str) -> bool:
    """A word that means yes or no."""
    if word.lower() not in TRUE + FALSE:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() in TRUE


def _with_underscores(word: str) -> str:
    """A flag as its field is spelled."""
    name, equals, value = word.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if word.startswith("--") else word


def _read_recipe(path: str) -> dict[str, Any]:
    """The recipe's keys and values."""
    try:
        recipe = yaml.safe_load(Path(path).read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"recipe {path} must be a mapping of keys to values, got {type(recipe).__name__}")
    return recipe


def _check_names(names: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse an unknown key; a typo must not silently train something else."""
    for name in names:
        if name not in known:
            if name in REPLACED and REPLACED[name] in known:
                raise ValueError(f"{where}: {name!r} is not read; use {REPLACED[name]!r}")
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{where}: unknown key {name!r}; the nearest known one is {nearest!r}")


def _as_flags(recipe: dict[str, Any], hints: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """The values of a recipe that no flag can say (null, mappings, lists in place of a word), and the rest as flags."""
    _check_names(recipe, hints, where)
    values: dict[str, Any] = {}
    flags: list[str] = []
    for name, value in recipe.items():
        accepted = {get_origin(member) or member for member in alternatives(hints[name])}
        if not isinstance(value, (dict, list, NoneType)):
            flags.append(f"--{name}={_as_word(value)}")
        elif isinstance(value, list) and accepted == {list}:
            flags += [f"--{name}", *map(_as_word, value)] if value else []
            values[name] = value
        elif type(value) in accepted or (value is None and NoneType in get_args(hints[name])):
            values[name] = value
        else:
            raise ValueError(f"{where}: {name} is {value!r}; accepted: {hints[name]}")
    return values, flags


def _as_word(value: Any) -> str:
    """A plain value as the command line says it; YAML takes the `no` of `save_strategy: no` for false."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _fill(dataclass_: type, given: dict[str, Any]) -> Any:
    """Make an instance of what is given and of the defaults.

    Raises:
        ValueError: If a field without a default is not given.
    """
    fields = [item for item in dataclasses.fields(dataclass_) if item.init]
    required = [item.name for item in fields if is_required(item) and item.name not in given]
    if required:
        raise ValueError(f"required: {', '.join(f'--{name}' for name in required)}")
    make: Callable[..., Any] = dataclass_
    return make(**{item.name: given[item.name] for item in fields if item.name in given})


def is_required(item: dataclasses.Field) -> bool:
    """Whether a field has no default."""
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def exit_status(command: str, run: Callable[[], Any]) -> int:
    """Run a command; errors that a user can mend end with one line and status 2, not with a traceback.

    Args:
        command (`str`): What the line begins with.
        run (`Callable`): The command.

    Returns:
        `int`: 0; 2 after a wrong value, a missing file or a lost connection; 130 after Ctrl-C.
    """
    try:
        run()
    except (ValueError, FileNotFoundError, ConnectionError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 130
    return 0
