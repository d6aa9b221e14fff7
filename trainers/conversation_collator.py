"""From conversations to batches for any image-text-to-text model, with the processor's own chat template."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PaliGemmaProcessor, ProcessorMixin

from ..data.bad_rows import RowProblem
from ..data.conversation_formats import Message
from ..data.images import open_image
from .completion_labels import answer_labels, answer_spans, check_chat_template, needs_special_tokens
from .rows import IndexedRows
from .token_losses import IGNORED

ON_LONG = ("drop", "truncate")
TRUNCATED, TOO_LONG, NOTHING_TO_LEARN, UNUSABLE = "truncated", "too long", "nothing to learn", "unusable"
OUTCOMES = (TRUNCATED, TOO_LONG, NOTHING_TO_LEARN, UNUSABLE)

logger = logging.getLogger(__name__)


@dataclass
class ConversationEncoder:
    """Turns one conversation into what the model reads, with labels on the assistant's tokens only.

    The result is what the processor returns for one text and its images, and `labels` of the shape of `input_ids`: the
    assistant's tokens and their end token; prompts and image tokens are -100.

    Args:
        processor (`ProcessorMixin`): Of an image-text-to-text model, with a chat template.
        image_token_ids (`Collection[int]`): Tokens in whose place image or video features stand, from the model's
            configuration.
        max_length (`int`, *optional*): Longest row in tokens, image tokens included.
        on_long (`str`): What happens to a longer row: `"drop"`, or `"truncate"`, which cuts it at the right unless
            that would touch an image or leave nothing to learn.

    Raises:
        ValueError: If an option is out of its range, or answers cannot be found in what the chat template renders.
    """

    processor: ProcessorMixin
    image_token_ids: Collection[int]
    max_length: int | None = None
    on_long: Literal["drop", "truncate"] = "drop"

    def __post_init__(self):
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length={self.max_length} must be at least 1, or None")
        if self.on_long not in ON_LONG:
            raise ValueError(f"on_long={self.on_long!r} is not one of {', '.join(ON_LONG)}")
        self._check()

    def _check(self) -> None:
        """Refuse a processor whose conversations cannot be labelled."""
        check_chat_template(self.processor)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Encode one row.

        Args:
            row (`dict`): `images`, a list of pictures or none, and `messages`, of which each image part stands for the
                next of them.

        Returns:
            `dict`: tensors, whose first axis is 1 or counts images, and `truncated`.

        Raises:
            ValueError: If the row cannot be used: an image is unreadable, or there are more or fewer than the text
                shows, or no answer, or too many tokens.
        """
        images = [open_image(image) for image in row["images"] or ()]
        encoded, labels = self._encode(images, [_without_empty_keys(message) for message in row["messages"]])
        tokens = encoded["input_ids"][0]
        is_image = torch.isin(tokens, torch.tensor(list(self.image_token_ids)))
        labels = labels.masked_fill(is_image, IGNORED)
        length = self._kept_length(labels, is_image)
        inputs = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        inputs["labels"] = labels[None]
        for name, value in inputs.items():
            if value.shape[:2] == (1, len(tokens)):
                inputs[name] = value[:, :length]
        return {**inputs, TRUNCATED: length < len(tokens)}

    def _encode(self, images: list[Image.Image], messages: list[Message]) -> tuple[BatchFeature, Tensor]:
        """What the processor makes of a conversation, and its labels `(L,)`."""
        text, spans = answer_spans(self.processor, messages)
        shown = text.count(self.processor.image_token)
        if shown != len(images):
            raise RowProblem("images do not match", f"the text shows {shown}, the row has {len(images)}")
        tokenizer = self.processor.tokenizer
        encoded = self.processor(
            text=text,
            images=[images] if images else None,
            add_special_tokens=needs_special_tokens(tokenizer, text),
            return_tensors="pt",
        )
        return encoded, torch.tensor(answer_labels(tokenizer, text, spans, encoded["input_ids"][0].tolist()))

    def _kept_length(self, labels: Tensor, is_image: Tensor) -> int:
        """How many tokens of a row to keep."""
        if (labels == IGNORED).all():
            raise RowProblem(NOTHING_TO_LEARN, "no token of an answer")
        if self.max_length is None or len(labels) <= self.max_length:
            return len(labels)
        cut_images, cut_labels = is_image[self.max_length :].any(), (labels[: self.max_length] == IGNORED).all()
        if self.on_long == "drop" or cut_images or cut_labels:
            raise RowProblem(TOO_LONG, f"{len(labels)} tokens, max_length is {self.max_length}")
        return self.max_length


@dataclass
class PrefixEncoder(ConversationEncoder):
    """A `ConversationEncoder` for PaliGemma, which has no chat template: it reads images and a prompt, then answers.

    Within the prompt attention runs both ways, so the processor has to know where the answer begins. A row must be one
    question with at least one image, and its answer.
    """

    processor: PaliGemmaProcessor

    def _check(self) -> None:
        """No chat template is asked for."""

    def _encode(self, images: list[Image.Image], messages: list[Message]) -> tuple[BatchFeature, Tensor]:
        roles = [message["role"] for message in messages]
        if roles != ["user", "assistant"] or not images:
            raise RowProblem(
                "not one question about an image and its answer", f"roles {', '.join(roles)}; {len(images)} images"
            )
        prompt, answer = ("".join(part.get("text", "") for part in message["content"]) for message in messages)
        text = self.processor.image_token * len(images) + prompt
        encoded = self.processor(text=text, images=[images], suffix=answer, return_tensors="pt")
        return encoded, encoded["labels"][0]


def _without_empty_keys(message: Message) -> Message:
    """A message whose parts have only the keys of their kind; a table gives every part all of them."""
    parts = [{key: value for key, value in part.items() if value is not None} for part in message["content"]]
    return {**message, "content": parts}


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
