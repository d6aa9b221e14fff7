"""Bad rows: each is named and counted, then left out or raised, in the same way by every reader."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

ON_BAD_ROW = ("skip", "raise")
NAMED_IN_LOG = 10

Row = TypeVar("Row")

logger = logging.getLogger(__name__)


class RowProblem(ValueError):
    """The reason why a row cannot be used.

    Args:
        reason (`str`): Bad rows are counted by it, for example "missing image".
        detail (`str`): The value that was met.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


class BadRow(NamedTuple):
    """A row that was left out.

    Args:
        source (`str`): Name of the source.
        row (`int`): Row number, from 1: lines of a text file, header included; records elsewhere.
        problem (`RowProblem`): Why it was left out.
    """

    source: str
    row: int
    problem: RowProblem

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}: {self.problem}"


@dataclass
class RowReport:
    """Counts of one reading: rows kept, rows left out, and repairs. Use a new report for each reading.

    Attributes:
        kept (`int`): Rows in the result.
        bad (`list[BadRow]`): Rows left out.
        notes (`Counter[str]`): Number of other findings by kind, such as dropped negatives. They cost no row.
    """

    kept: int = 0
    bad: list[BadRow] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Number of rows considered."""
        return self.kept + len(self.bad)

    @property
    def reasons(self) -> Counter[str]:
        """Number of bad rows per reason."""
        return Counter(bad.problem.reason for bad in self.bad)

    def add(self, other: "RowReport") -> None:
        """Add the counts of another source."""
        self.kept += other.kept
        self.bad += other.bad
        self.notes += other.notes

    def finish(self, source: str) -> None:
        """Warn of the rows left out, the first ones by name, and of the notes. A clean source logs nothing.

        Args:
            source (`str`): Name of the source in messages.

        Raises:
            ValueError: If no row is left.
        """
        named = "".join(f"\n  {bad}" for bad in self.bad[:NAMED_IN_LOG])
        left_out = f"{len(self.bad)} of {self.total} rows cannot be used ({_counts(self.reasons)}):{named}"
        if not self.kept:
            raise ValueError(f"{source}: no row is left; {left_out if self.bad else _counts(self.notes)}")
        if self.bad:
            logger.warning("%s: %s", source, left_out)
        if self.notes:
            logger.warning("%s, noted: %s", source, _counts(self.notes))


@dataclass
class BadRows:
    """Collects the bad rows of one source, or stops at the first.

    Args:
        source (`str`): Name of the source in messages.
        numbers (`Sequence[int]`): Row number of each record.
        on_bad_row (`str`): "skip" records a bad row in the report, "raise" stops.
        report (`RowReport`): The report to fill.
    """

    source: str
    numbers: Sequence[int]
    on_bad_row: str
    report: RowReport

    def add(self, index: int, problem: RowProblem) -> None:
        """Record the bad row at an index.

        Raises:
            ValueError: If `on_bad_row` is "raise". The message names the row and its problem.
        """
        bad = BadRow(self.source, self.numbers[index], problem)
        if self.on_bad_row == "raise":
            raise ValueError(str(bad)) from problem
        self.report.bad.append(bad)

    def remove(self, problems: Mapping[int, RowProblem], rows: Mapping[int, Row]) -> dict[int, Row]:
        """Record the problems of some rows, by index, and return the other rows."""
        for index, problem in problems.items():
            self.add(index, problem)
        return {index: row for index, row in rows.items() if index not in problems}


def _counts(counter: Counter[str]) -> str:
    """Write a counter as "missing image 2, empty caption 1", the most frequent first."""
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def check_on_bad_row(on_bad_row: str) -> None:
    """Check the policy for bad rows.

    Raises:
        ValueError: If it is neither "skip" nor "raise".
    """
    if on_bad_row not in ON_BAD_ROW:
        raise ValueError(f"on_bad_row={on_bad_row!r} is not one of {', '.join(ON_BAD_ROW)}")
