"""What every reader does with records: take the rows asked for, check their cells, reject the bad ones."""

import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

from .bad_rows import RowProblem

Row = TypeVar("Row")


class Wanted:
    """The rows asked for, by what a user may call them, and the names that were met.

    Args:
        only (path or collection of `str`, *optional*): Image names or ids; a text file has one a line. None: all rows.
    """

    def __init__(self, only: str | Path | Collection[str] | None):
        if isinstance(only, (str, Path)):
            only = Path(only).read_text(encoding="utf-8").splitlines()
        self.asked = None if only is None else {str(name).strip() for name in only} - {""}
        self.met: set[str] = set()

    def holds(self, names: set[str]) -> bool:
        """Return whether one of the names was asked for, and remember those that were."""
        if self.asked is None:
            return True
        self.met |= self.asked & names
        return not self.asked.isdisjoint(names)

    def note_unmet(self, notes: Counter[str]) -> None:
        """Count the names that no row has."""
        if self.asked is not None and self.asked != self.met:
            notes["image asked for without a row"] = len(self.asked - self.met)


def image_names(image: str | None) -> set[str]:
    """List what a user may call an image: its path, its file name."""
    return {str(image), PurePath(str(image)).name}


def read_rows(
    records: Sequence[Any],
    read_row: Callable[[int, dict[str, Any]], Row | None],
    reject: Callable[[int, RowProblem], None],
) -> dict[int, Row]:
    """Read the rows that were asked for.

    Args:
        records (sequence): What a source holds; a good one is a `dict`.
        read_row (`Callable`): Makes a row from an index and a record. It returns None if the row was not asked for, and
            raises `RowProblem` if it is bad.
        reject (`Callable`): Takes the index of a bad row, and its problem.

    Returns:
        `dict`: Rows by their index among the records.
    """
    rows = {}
    for index, record in enumerate(records):
        try:
            if not isinstance(record, dict):
                raise RowProblem("row is not an object", reprlib.repr(record))
            if None in record:
                raise RowProblem("row has more cells than the header", reprlib.repr(record[None]))
            row = read_row(index, record)
        except RowProblem as problem:
            reject(index, problem)
        else:
            if row is not None:
                rows[index] = row
    return rows


def check_id(value: Any) -> None:
    """Refuse an id that is neither a number, text nor absent."""
    if value is not None and not isinstance(value, (int, str)):
        raise RowProblem("id is neither a number nor text", reprlib.repr(value))


def storable(text: str) -> str:
    """Refuse half of a surrogate pair, which JSON can spell but no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem("text is not Unicode", ascii(text)) from error
    return text
