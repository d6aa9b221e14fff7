"""Reading dataclasses from JSON: every value is checked against its annotation, and an error names its place."""

import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def read_record(kind: type, content: Any, where: str) -> Any:
    """Build a dataclass from the object that JSON has of it.

    Args:
        kind (`type`): A dataclass, of plain values, lists, tuples, dictionaries and dataclasses.
        content: What `json.loads` returned.
        where (`str`): Place of the content, for errors.

    Returns:
        An instance of `kind`.

    Raises:
        ValueError: If a field is missing or unknown, or a value is not of its kind, such as NaN for a number.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where}: {_shown(content)}; must be an object")
    hints = get_type_hints(kind)
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if unknown := sorted(content.keys() - hints.keys()):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; accepted: {', '.join(hints)}")
    if absent := sorted(required - content.keys()):
        raise ValueError(f"{where}: {', '.join(absent)} missing")
    return kind(**{name: _read(hints[name], value, f"{where}: {name}") for name, value in content.items()})


def _read(hint: Any, value: Any, where: str) -> Any:
    """Read a value of any annotation."""
    if is_dataclass(hint):
        return read_record(hint, value, where)
    origin, parts = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = [part for part in parts if part is not NoneType]
        return None if value is None else _read(inner, value, where)
    if origin is dict and parts and isinstance(value, dict):
        return {name: _read(parts[1], entry, f"{where}: {name}") for name, entry in value.items()}
    if origin is list and parts and isinstance(value, list):
        return [_read(parts[0], entry, f"{where}[{position}]") for position, entry in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_read(part, entry, where) for part, entry in zip(parts, value, strict=True))
    accepted = (int, float) if origin is float else origin
    if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
        raise ValueError(f"{where}: {_shown(value)}; must be {hint.__name__ if isinstance(hint, type) else hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value}; must be finite")
    return value


def _shown(value: Any) -> str:
    """Print a value that may be long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
