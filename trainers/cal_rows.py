"""Conversations as rows, their order, and their batches; truncated and dropped rows are counted."""

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import ProcessorMixin

from ..data.chat import IGNORED_LABEL
from ..data.chat.encoder import NOTHING_TO_LEARN, TOO_LONG, TRUNCATED
from ..data.readers.bad_rows import RowProblem
from .rows import IndexedRows

if TYPE_CHECKING:
    import datasets

UNUSABLE = "unusable"
OUTCOMES = (TRUNCATED, TOO_LONG, NOTHING_TO_LEARN, UNUSABLE)

logger = logging.getLogger(__name__)


class ConversationRows(IndexedRows):
    """Encoded conversations with their index; an unusable row is replaced by the next usable one of its kind.

    The kinds are rows with images and rows of text alone; only where one has no usable row left is the other taken.
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

    def _item(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        if row.pop(TRUNCATED):
            self._note(row["row"], TRUNCATED)
        return row

    def _stand_ins(self, index: int) -> Iterator[int]:
        kind = self._kind(index)
        for alike in (True, False):
            yield from (row for row in super()._stand_ins(index) if (self._kind(row) == kind) == alike)

    def _kind(self, index: int) -> bool | None:
        """Whether a row has an image; None if not even its messages can be read."""
        rows: Any = self.conversations
        try:
            return count_images(rows[index]["messages"] if _by_rows(rows) else rows["messages"][index]) > 0
        except MemoryError:
            raise
        except Exception:  # told when the row itself is read
            return None

    @property
    def outcomes(self) -> dict[str, int]:
        """Count the rows read so far that were truncated, and those left out, by reason."""
        counts = torch.bincount(self._outcomes, minlength=1 + len(OUTCOMES))[1:]
        return dict(zip(OUTCOMES, counts.tolist(), strict=True))

    def log_outcomes(self) -> None:
        """Warn about the rows that were truncated or left out so far, if there are any."""
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
    """Rows that are encoded on reading."""

    rows: Sequence[dict[str, Any]]
    encode: Callable[[dict], dict]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.encode(self.rows[index])


@dataclass
class ConversationCollator:
    """Make a batch of encoded conversations, padded at the right.

    With B rows, L tokens in the longest and N images in all, for LLaVA:

    ```
    input_ids      (B, L)
    attention_mask (B, L)          0 on padding
    labels         (B, L)          -100 on all but the assistant's tokens
    pixel_values   (N, 3, H, W)    absent if no row has an image
    row            (B,)            where each sample stands in the dataset
    ```

    Further tensors of the processor are concatenated row by row: LLaVA-NeXT's (N, tiles, 3, H, W), padded
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
        batch = join_rows(rows, self.processor.tokenizer.pad_token_id)
        return {**batch, "row": torch.tensor([row["row"] for row in rows])}


def join_rows(parts: Sequence[dict[str, Any]], padding_token: int) -> dict[str, Tensor]:
    """Join the tensors of encoded rows or of whole batches, name by name; not every part has all of them.

    Args:
        parts (`Sequence[dict]`): Tensors, whose first axis counts rows or images; other values are left out.
        padding_token (`int`): Padding of `input_ids`. Labels are padded with -100, all else with 0.
    """
    columns = defaultdict(list)
    for part in parts:
        for name, value in part.items():
            if isinstance(value, Tensor):
                columns[name].append(value)
    padding = {"input_ids": padding_token, "labels": IGNORED_LABEL}
    return {name: concatenate_padded(values, padding.get(name, 0)) for name, values in columns.items()}


def concatenate_padded(tensors: Sequence[Tensor], padding: float) -> Tensor:
    """Concatenate along the first axis; pad every other axis at its end to the largest size.

    Args:
        tensors (`Sequence[torch.Tensor]`): Of equal type and number of axes, at least one.
        padding (`float`): Padding value.

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


# The order of rows


CHARACTERS_PER_TOKEN = 4  # of English text
WINDOW = 50  # optimizer steps whose rows are sorted together


class ModalityLengthSampler(Sampler[int]):
    """Orders rows so that each optimizer step holds either only rows with images or only text, of similar lengths.

    Little is padded then, and all processes run the vision tower or none does. Steps come in random order, that of the
    longest row first, so that running out of memory shows at once. Rows left over, fewer than a step of each kind, come
    last, filled up with further rows of their kind until every process has a full batch; no such batch has a row
    twice. Only a kind with fewer rows than that is mixed with the other. The order is a function of the seed and the
    epoch.

    Args:
        lengths (`Sequence[int]`): Of the rows, in any unit.
        has_image (`Sequence[bool]`): Which rows have an image.
        batch_size (`int`): Rows of an optimizer step: of a process's batch, times processes, times accumulation steps.
        seed (`int`): Root of the order.
        at_once (`int`): Rows that are read at once: of a process's batch, times processes. Divides `batch_size`.

    Raises:
        ValueError: If lengths and kinds differ in number, or the batch is empty or not a multiple of `at_once`.

    Reference:
        LLaVA-1.5's `group_by_modality_length`, https://huggingface.co/papers/2310.03744, sorted over more steps.
    """

    def __init__(
        self, lengths: Sequence[int], has_image: Sequence[bool], batch_size: int, seed: int = 0, at_once: int = 1
    ):
        if len(lengths) != len(has_image):
            raise ValueError(f"{len(lengths)} lengths for {len(has_image)} rows")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if at_once < 1 or batch_size % at_once:
            raise ValueError(f"batch_size={batch_size} must be a multiple of at_once={at_once}")
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.at_once = at_once
        self.epoch = 0
        self._kinds = [[row for row, image in enumerate(has_image) if image == kind] for kind in (True, False)]
        if any(len(kind) < at_once for kind in self._kinds):
            self._pools = [list(range(len(lengths)))]  # what is left over of both is filled up together
        else:
            self._pools = self._kinds

    def __len__(self) -> int:
        return sum(len(pool) + self._missing(len(pool), len(pool)) for pool in self._pools)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"order/{self.seed}/{self.epoch}")
        steps: list[list[int]] = []
        rest: list[list[int]] = [[], []]
        for kind, left_over in zip(self._kinds, rest, strict=True):
            for step in self._steps(draw.sample(kind, len(kind))):
                if len(step) == self.batch_size:
                    steps.append(step)
                else:
                    left_over += step
        draw.shuffle(steps)
        if steps:
            longest = max(range(len(steps)), key=lambda step: self.lengths[steps[step][0]])
            steps[0], steps[longest] = steps[longest], steps[0]
        if len(self._pools) == 1:
            rest = [rest[0] + rest[1]]
        filled = [self._filled(rows, pool, draw) for rows, pool in zip(rest, self._pools, strict=True)]
        return (row for step in steps + filled for row in step)

    def _missing(self, rows: int, pool: int) -> int:
        """Number of rows that fill up the last batch of all processes, of those of a pool that are not in it."""
        return min(-rows % self.at_once, pool - rows % self.at_once)

    def _filled(self, rows: list[int], pool: list[int], draw: random.Random) -> list[int]:
        """Add rows of a pool to those left over, none that is in their last batch already."""
        last = set(rows[len(rows) - len(rows) % self.at_once :])
        others = [row for row in draw.sample(pool, min(len(pool), self.at_once)) if row not in last]
        return rows + others[: self._missing(len(rows), len(pool))]

    def _steps(self, rows: list[int]) -> Iterator[list[int]]:
        """Shuffled rows of one kind, sorted within windows and cut into steps, the longest row of each first."""
        # In four windows at least, or the rows of a small dataset would meet the same others in every epoch.
        window = self.batch_size * max(1, min(WINDOW, len(rows) // (4 * self.batch_size)))
        for start in range(0, len(rows), window):
            similar = sorted(rows[start : start + window], key=self.lengths.__getitem__, reverse=True)
            yield from (similar[place : place + self.batch_size] for place in range(0, len(similar), self.batch_size))


def estimate_lengths(
    rows: "datasets.Dataset | Sequence[dict[str, Any]]", tokens_per_image: int = 576
) -> tuple[list[int], list[bool]]:
    """Estimate how many tokens conversations have, from their characters and images, without opening an image.

    Args:
        rows (`datasets.Dataset`, or rows by index): Conversations with `messages`.
        tokens_per_image (`int`): Tokens that an image takes, about; 576 is LLaVA-1.5's number.

    Returns:
        `tuple`: the estimates, in tokens, and whether each row has an image.
    """
    lengths, has_image = [], []
    columns: Any = rows  # reading one column of a dataset decodes no other
    for messages in (columns[row]["messages"] for row in range(len(rows))) if _by_rows(rows) else columns["messages"]:
        parts = [part for message in messages for part in message["content"]]
        images = count_images(messages)
        characters = sum(len(part["text"]) for part in parts if part["type"] == "text")
        lengths.append(characters // CHARACTERS_PER_TOKEN + images * tokens_per_image)
        has_image.append(images > 0)
    return lengths, has_image


def count_images(messages: Sequence[dict[str, Any]]) -> int:
    """Count the images that the messages of a conversation show."""
    return sum(part["type"] == "image" for message in messages for part in message["content"])


def _by_rows(rows: Any) -> bool:
    """Whether rows can be had by index alone; a `datasets.Dataset` has columns too."""
    return isinstance(rows, (list, tuple, Dataset))
