"""A dataset as the trainers read it: rows with their index, and unreadable images that do not stop a run."""

import logging
import random
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

from ..data.readers.bad_rows import check_on_bad_row
from .columns import IMAGE_ID, column_of

logger = logging.getLogger(__name__)


class Rows(Protocol):
    """Anything with a length and rows as dictionaries: a `datasets.Dataset`, a list, a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


class IndexedRows(Dataset):
    """Rows with their index and the epoch, from which every random choice about a sample is drawn.

    A row whose image cannot be read is replaced by the next readable one, named and counted once per process that
    meets it, so that every process still makes as many batches. No row comes twice in a batch for that: where no other
    row is left, the batch is smaller. An item is the row with two more keys: `row`, the place in the dataset that it
    was read from, and `epoch`.

    Args:
        rows (`Rows`): Anything with a length and rows as dictionaries.
        on_bad_row (`str`): `"skip"` to replace unreadable rows, `"raise"` to stop at the first.
    """

    def __init__(self, rows: Rows, on_bad_row: str = "skip"):
        check_on_bad_row(on_bad_row)
        self.rows = rows
        self.on_bad_row = on_bad_row
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # persistent workers must see it change
        self._bad: set[int] = set()
        self._last_error: Exception | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Read the rows of a batch, as PyTorch's data loader does.

        Raises:
            ValueError: If none of them can be read, and no other row either.
        """
        taken, items = set(indices), []
        for index in indices:
            taken.discard(index)
            row = self._read(index, taken)
            taken.add(index)
            if row is not None:
                taken.add(row["row"])
                items.append(self._item(row, index))
        if not items:
            raise self._nothing_to_read() from self._last_error
        return items

    def _item(self, row: dict[str, Any], index: int) -> Any:
        """Make the item at an index from the row that was read for it."""
        return row

    def _stand_ins(self, index: int) -> Iterable[int]:
        """Other rows, in the order in which they replace a bad one."""
        return ((index + offset) % len(self) for offset in range(1, len(self)))

    def _read(self, index: int, avoid: Collection[int]) -> dict[str, Any] | None:
        """Return the row at an index, or the first of its stand-ins that can be read; None where there is none."""
        for candidate in chain([index], self._stand_ins(index)):
            if candidate in avoid or candidate in self._bad:
                continue
            try:
                row = self.rows[candidate]
            except MemoryError:  # the row is not to blame
                raise
            except Exception as error:  # damaged files and odd templates raise all kinds
                self._meet_bad_row(candidate, error)
                self._last_error = error
                continue
            return {**row, "row": candidate, "epoch": int(self._epoch)}
        return None

    def _meet_bad_row(self, index: int, error: Exception) -> None:
        """Name the row, or stop the run."""
        if self.on_bad_row == "raise":
            raise ValueError(f"row {index} cannot be read: {error}") from error
        self._bad.add(index)
        logger.warning(
            "row %d cannot be read and is replaced by the next: %s (%d so far)", index, error, len(self._bad)
        )

    def _nothing_to_read(self) -> ValueError:
        return ValueError(f"no readable row among {len(self)}; the last: {self._last_error}")


class RowsWithNeighbors(IndexedRows):
    """Rows of NegCLIP: each comes with one of its nearest-neighbour rows, another one each epoch.

    An item is a list of the row and one of its `neighbors` that shows another image; a row that names none gets any
    other row. In a dataset without that column an item is a list of the row alone: the row twice would be its own false
    negative.

    Args:
        rows (`Rows`): As for `IndexedRows`.
        on_bad_row (`str`): As for `IndexedRows`.
        seed (`int`): Root of the choice of neighbours.
    """

    def __init__(self, rows: Rows, on_bad_row: str = "skip", seed: int = 0):
        super().__init__(rows, on_bad_row)
        self.seed = seed
        self._images = column_of(rows, IMAGE_ID)

    def _item(self, row: dict[str, Any], index: int) -> list[dict[str, Any]]:
        if "neighbors" not in row:
            return [row]
        others = [near for near in row["neighbors"] or () if self._differ(near, row["row"])] or range(len(self))
        draw = random.Random(f"neighbor/{self.seed}/{row['epoch']}/{index}")
        neighbor = self._read(draw.choice(others), avoid=[row["row"]])
        if neighbor is None:
            raise self._nothing_to_read() from self._last_error
        return [row, neighbor]

    def _differ(self, one: int, other: int) -> bool:
        """Whether two rows show two images, as far as they name them."""
        images = self._images
        return one != other and (images is None or images[one] is None or images[one] != images[other])
