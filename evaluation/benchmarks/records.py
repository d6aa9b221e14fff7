"""Annotation files of benchmarks: reading them with every item checked, and comparing their sizes with the official."""

import json
import reprlib
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any


def read_records(path: str | Path, fields: Mapping[str, type]) -> dict[str, dict[str, Any]]:
    """Read the items of a file and check that each has its fields.

    Args:
        path (`str` or `Path`): JSON file that maps item ids to records or lists records; or, with the suffix `.jsonl`,
            a file with one record per line.
        fields (mapping of `str` to `type`): Fields that every record needs. Other fields are kept.

    Returns:
        `dict[str, dict]`: the records by id, in the order of the file. The id of a listed record is its field `id`, or
        its position.

    Raises:
        ValueError: If the file is not JSON, a record is not an object with these fields, or two records have the same
            id.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        content = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, (dict, list)):
        raise ValueError(f"{path}: {reprlib.repr(content)}; needs a mapping or a list of items")
    keyed = content.items() if isinstance(content, dict) else enumerate(content)
    records = {}
    for key, record in keyed:
        if not isinstance(record, dict) or not all(isinstance(record.get(name), fields[name]) for name in fields):
            needed = ", ".join(f"{name} ({kind.__name__})" for name, kind in fields.items())
            raise ValueError(f"{path}, item {str(key)!r}: {reprlib.repr(record)}; needs {needed}")
        name = str(key if isinstance(content, dict) else record.get("id", key))
        if name in records:
            raise ValueError(f"{path}: two items have the id {name!r}")
        records[name] = record
    return records


def check_sizes(listed: Mapping[str, Sized], expected: Mapping[str, int], source: str | Path) -> list[str]:
    """Compare the numbers of items with those of the complete set.

    If one file has its official size, all must. If all files are smaller, they are a subset. No file may be larger.

    Args:
        listed (mapping of `str` to sized): The items of each file.
        expected (mapping of `str` to `int`): The official number of items of each file.
        source (`str` or `Path`): Origin of the items, for the error.

    Returns:
        `list[str]`: a note that the items are a subset, or no note.

    Raises:
        ValueError: If a file has a size that fits neither the complete set nor a subset.
    """
    sizes = {name: len(listed[name]) for name in expected}
    unexpected = {name: size for name, size in sizes.items() if size != expected[name]}
    if any(sizes.values()) and all(size < expected[name] for name, size in sizes.items()):
        return [f"a subset: {sum(sizes.values())} of {sum(expected.values())} items of the complete set"]
    if unexpected:
        official = {name: expected[name] for name in unexpected}
        raise ValueError(f"{source}: {unexpected} items where the complete set has {official}")
    return []
