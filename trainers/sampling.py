"""The order of conversations: rows of like length together, and only rows with images or only rows without."""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import Sampler

if TYPE_CHECKING:
    from datasets import Dataset

CHARACTERS_PER_TOKEN = 4  # of English text
WINDOW = 50  # optimizer steps whose rows are sorted together


class ModalityLengthSampler(Sampler[int]):
    """Orders rows so that an optimizer step holds either only rows with images or only text, of similar lengths.

    Little is padded then, and all processes run the vision tower or none does. Steps come in random order, that of the
    longest row first: what does not fit into memory fails at once. Rows left over, fewer than a step of each kind, come
    last. The order is a function of the seed and the epoch.

    Args:
        lengths (`Sequence[int]`): Of the rows, in any unit.
        has_image (`Sequence[bool]`): Which rows have an image.
        batch_size (`int`): Rows of an optimizer step: of a process's batch, times processes, times accumulation steps.
        seed (`int`): Root of the order.

    Raises:
        ValueError: If lengths and kinds differ in number, or the batch is empty.

    Reference:
        LLaVA-1.5's `group_by_modality_length`, https://huggingface.co/papers/2310.03744, sorted over more steps.
    """

    def __init__(self, lengths: Sequence[int], has_image: Sequence[bool], batch_size: int, seed: int = 0):
        if len(lengths) != len(has_image):
            raise ValueError(f"{len(lengths)} lengths for {len(has_image)} rows")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._kinds = [[row for row, image in enumerate(has_image) if image == kind] for kind in (True, False)]

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"order/{self.seed}/{self.epoch}")
        steps, rest = [], []
        for kind in self._kinds:
            for step in self._steps(draw.sample(kind, len(kind))):
                (steps if len(step) == self.batch_size else rest).append(step)
        draw.shuffle(steps)
        if steps:
            longest = max(range(len(steps)), key=lambda step: self.lengths[steps[step][0]])
            steps[0], steps[longest] = steps[longest], steps[0]
        return (row for step in steps + rest for row in step)

    def _steps(self, rows: list[int]) -> Iterator[list[int]]:
        """Shuffled rows of one kind, sorted within windows and cut into steps, the longest row of each first."""
        # In four windows at least, or the rows of a small data set would meet the same others in every epoch.
        window = self.batch_size * max(1, min(WINDOW, len(rows) // (4 * self.batch_size)))
        for start in range(0, len(rows), window):
            similar = sorted(rows[start : start + window], key=self.lengths.__getitem__, reverse=True)
            yield from (similar[place : place + self.batch_size] for place in range(0, len(similar), self.batch_size))


def estimate_lengths(
    rows: "Dataset | Sequence[dict[str, Any]]", tokens_per_image: int = 576
) -> tuple[list[int], list[bool]]:
    """Estimate how many tokens conversations have, from their characters and images, without opening an image.

    Args:
        rows (`Dataset`, or a list of rows): Conversations with `messages`.
        tokens_per_image (`int`): Tokens that an image takes, about; 576 is LLaVA-1.5's number.

    Returns:
        `tuple`: the estimates, in tokens, and whether each row has an image.
    """
    lengths, has_image = [], []
    # Reading one column of a data set decodes no other.
    for messages in [row["messages"] for row in rows] if isinstance(rows, (list, tuple)) else rows["messages"]:
        parts = [part for message in messages for part in message["content"]]
        images = sum(part["type"] == "image" for part in parts)
        characters = sum(len(part["text"]) for part in parts if part["type"] == "text")
        lengths.append(characters // CHARACTERS_PER_TOKEN + images * tokens_per_image)
        has_image.append(images > 0)
    return lengths, has_image
