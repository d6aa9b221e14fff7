"""Bad rows: every one named and counted, then left out or refused, the same way in every reader."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

ON_BAD_ROW = ("skip", "raise")
NAMED_IN_LOG = 10

logger = logging.getLogger(__name__)


class RowProblem(ValueError):
    """Why one row cannot be used: a reason to count by, such as "missing image", and what was met."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


class BadRow(NamedTuple):
    """One row that was left out; `row` counts from 1: lines of a text file, its header included, records elsewhere."""

    source: str
    row: int
    problem: RowProblem

    def __str__(self) -> str:
        return f"{self.source}, row {self.row}: {self.problem}"


@dataclass
class RowReport:
    """What one reading of a source left out, and what else it met; take a fresh one for each reading.

    Attributes:
        kept (`int`): Rows that came through.
        bad (`list[BadRow]`): Rows left out.
        notes (`Counter[str]`): What else was met, and how often; it cost no row.
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
        """Number of bad rows for each reason."""
        return Counter(bad.problem.reason for bad in self.bad)

    def reject(self, bad: BadRow, on_bad_row: str) -> None:
        """Record a bad row.

        Args:
            bad (`BadRow`): The row and its problem.
            on_bad_row (`str`): "skip" to go on, "raise" to stop here.

        Raises:
            ValueError: If `on_bad_row` is "raise"; the message is the row's name and problem.
        """
        if on_bad_row == "raise":
            raise ValueError(str(bad)) from bad.problem
        self.bad.append(bad)

    def add(self, other: "RowReport") -> None:
        """Take over what was met in another source."""
        self.kept += other.kept
        self.bad += other.bad
        self.notes += other.notes

    def finish(self, source: str) -> None:
        """Log what was left out, the first rows by name, and what was noted; a clean source logs nothing.

        Args:
            source (`str`): What was read, as messages should call it.

        Raises:
            ValueError: If no row came through.
        """
        named = "".join(f"\n  {bad}" for bad in self.bad[:NAMED_IN_LOG])
        left_out = f"{len(self.bad)} of {self.total} rows cannot be used ({_counts(self.reasons)}):{named}"
        if not self.kept:
            raise ValueError(f"{source}: no row is left; {left_out if self.bad else _counts(self.notes)}")
        if self.bad:
            logger.warning("%s: %s", source, left_out)
        if self.notes:
            logger.warning("%s, noted: %s", source, _counts(self.notes))


def _counts(counter: Counter[str]) -> str:
    """Write a counter as "missing image 2, empty caption 1", the most frequent first."""
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def check_on_bad_row(on_bad_row: str) -> None:
    """Refuse a policy that does not exist."""
    if on_bad_row not in ON_BAD_ROW:
        raise ValueError(f"on_bad_row={on_bad_row!r} is not one of {', '.join(ON_BAD_ROW)}.")
