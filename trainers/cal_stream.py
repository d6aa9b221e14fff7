"""Conversations from a stream: encoded when they are read; truncated and dropped rows are counted."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.utils.data import IterableDataset

from ..data.chat.encoder import TOO_LONG, TRUNCATED
from ..data.readers.bad_rows import RowProblem
from .cal_rows import OUTCOMES, UNUSABLE, logger
from .streaming import Row, StreamedRows


class StreamedConversations(StreamedRows):
    """Encoded conversations of a stream; the counts are those of the first pass, over all workers of this process.

    Args:
        stream (`IterableDataset`): Conversations with `images` and `messages`, see `StreamedRows`.
        batch_size (`int`): Rows of a process's batch.
        encode (`Callable`): Turns a row into tensors, such as a `ConversationEncoder`.
        on_bad_row (`str`): `"skip"` or `"raise"`.
    """

    def __init__(self, stream: IterableDataset, batch_size: int, encode: Callable[[dict], dict], on_bad_row: str):
        super().__init__(stream, batch_size, on_bad_row, encode)
        self._counts = multiprocessing.Array("q", len(OUTCOMES))  # workers write, the trainer reads

    @property
    def outcomes(self) -> dict[str, int]:
        """Count the rows read so far that were truncated, and those left out, by reason."""
        return dict(zip(OUTCOMES, self._counts[:], strict=True))

    def log_outcomes(self) -> None:
        """Warn about the rows that were truncated or left out so far, if there are any."""
        met = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count)
        if met:
            logger.warning("of the conversations of the stream: %s", met)

    def _read(self, raw: Row, index: int, epoch: int) -> dict[str, Any] | None:
        row = super()._read(raw, index, epoch)
        if row is not None and row.pop(TRUNCATED):
            self._note(TRUNCATED, epoch)
        return row

    def _meet_bad_row(self, index: int, epoch: int, error: Exception) -> None:
        reason = error.reason if isinstance(error, RowProblem) else UNUSABLE
        self._note(reason if reason in OUTCOMES else UNUSABLE, epoch)
        if reason != TOO_LONG:
            super()._meet_bad_row(index, epoch, error)

    def _note(self, outcome: str, epoch: int) -> None:
        if epoch == 0:
            with self._counts.get_lock():
                self._counts[OUTCOMES.index(outcome)] += 1
