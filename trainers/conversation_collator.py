"""From encoded conversations to batches for any image-text-to-text model; what was truncated or left out is counted."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin

from ..data.bad_rows import RowProblem
from ..data.conversation_encoding import NOTHING_TO_LEARN, TOO_LONG, TRUNCATED
from .rows import IndexedRows
from .token_losses import IGNORED

UNUSABLE = "unusable"
OUTCOMES = (TRUNCATED, TOO_LONG, NOTHING_TO_LEARN, UNUSABLE)

logger = logging.getLogger(__name__)


class ConversationRows(IndexedRows):
    """Encoded conversations that know where they stand; one that cannot be used is replaced by the next that can.

    Rows are counted once each, however often and by whichever worker of this process they are read. Rows that are too
    long are counted but not named: `on_long` asks for that.

    Args:
        rows (`Sequence`): Conversations with `images` and `messages`.
        encode (`Callable`): Turns a row into tensors, such as a `ConversationEncoder`.
        on_bad_row (`str`): `"skip"` to replace other unusable rows and name them, `"raise"` to stop at the first.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], encode: Callable[[dict], dict], on_bad_row: str = "skip"):
        super().__init__(_Encoded(rows, encode), on_bad_row)
        self.conversations = rows
        self._outcomes = torch.zeros(len(rows), dtype=torch.uint8).share_memory_()  # workers write, the trainer reads

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._read(index)
        if row.pop(TRUNCATED):
            self._note(row["row"], TRUNCATED)
        return row

    @property
    def outcomes(self) -> dict[str, int]:
        """How many of the rows met so far were truncated, and how many left out, by reason."""
        counts = torch.bincount(self._outcomes, minlength=1 + len(OUTCOMES))[1:]
        return dict(zip(OUTCOMES, counts.tolist(), strict=True))

    def log_outcomes(self) -> None:
        """Say what was truncated or left out so far, if anything was."""
        met = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count)
        if met:
            logger.warning("of %d conversations: %s", len(self), met)

    def _meet_bad_row(self, index: int, error: Exception) -> None:
        reason = error.reason if isinstance(error, RowProblem) else UNUSABLE
        self._note(index, reason if reason in OUTCOMES else UNUSABLE)
        if reason == TOO_LONG:
            self._bad.add(index)
        else:
            super()._meet_bad_row(index, error)

    def _note(self, index: int, outcome: str) -> None:
        self._outcomes[index] = 1 + OUTCOMES.index(outcome)


@dataclass
class _Encoded:
    """Rows that are encoded when they are read."""

    rows: Sequence[dict[str, Any]]
    encode: Callable[[dict], dict]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.encode(self.rows[index])


@dataclass
class ConversationCollator:
    """Makes a batch of encoded conversations, padded at the right.

    With B rows, L tokens in the longest and N images in all, for LLaVA:

    ```
    input_ids      (B, L)
    attention_mask (B, L)          0 on padding
    labels         (B, L)          -100 on all but the assistant's tokens
    pixel_values   (N, 3, H, W)    absent if no row has an image
    row            (B,)            where each sample stands in the dataset
    ```

    Whatever else the processor returns comes along, one row behind the other: LLaVA-NeXT's (N, tiles, 3, H, W), padded
    to the most tiles, and `image_sizes` (N, 2); Qwen2-VL's patches and `image_grid_thw` (N, 3).

    Args:
        processor (`ProcessorMixin`): The one that encoded the rows; its tokenizer has a padding token.

    Raises:
        ValueError: If the tokenizer has no padding token.
    """

    processor: ProcessorMixin

    def __post_init__(self):
        if self.processor.tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no padding token: set its pad_token, for instance to its eos_token")

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        columns = defaultdict(list)
        for row in rows:
            for name, value in row.items():
                if isinstance(value, Tensor):
                    columns[name].append(value)
        padding = {"input_ids": self.processor.tokenizer.pad_token_id, "labels": IGNORED}
        batch = {name: concatenate_padded(values, padding.get(name, 0)) for name, values in columns.items()}
        return {**batch, "row": torch.tensor([row["row"] for row in rows])}


def concatenate_padded(tensors: Sequence[Tensor], padding: float) -> Tensor:
    """Concatenate along the first axis; along every other one, fill up at the end to the largest.

    Args:
        tensors (`Sequence[torch.Tensor]`): Of equal type and number of axes, at least one.
        padding (`float`): What to fill with.

    Returns:
        `torch.Tensor`: as long on its first axis as all of them together.
    """
    sizes = [max(lengths) for lengths in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    joined = tensors[0].new_full((sum(map(len, tensors)), *sizes), padding)
    start = 0
    for tensor in tensors:
        joined[(slice(start, start + len(tensor)), *map(slice, tensor.shape[1:]))] = tensor
        start += len(tensor)
    return joined
