"""Encoding of conversations for an image-text-to-text model, with the processor's own chat template."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PaliGemmaProcessor, PreTrainedModel, ProcessorMixin

from ..images import open_image
from ..readers.bad_rows import RowProblem
from ..readers.conversation_formats import Message
from . import IGNORED_LABEL
from .labels import answer_labels, answer_spans, check_chat_template, needs_special_tokens, tokenize

ON_LONG = ("drop", "truncate")
TRUNCATED, TOO_LONG, NOTHING_TO_LEARN = "truncated", "too long", "nothing to learn"


@dataclass
class ConversationEncoder:
    """Encodes one conversation into the inputs of a model, with labels on the assistant's tokens only.

    The result contains everything that the processor returns for one text and its images, and `labels` of the shape of
    `input_ids`. The assistant's tokens and their end token are labelled; prompts and image tokens are -100.

    Args:
        processor (`ProcessorMixin`): Processor of an image-text-to-text model, with a chat template.
        image_token_ids (`Collection[int]`): Tokens that image or video features replace, from the model's
            configuration.
        max_length (`int`, *optional*): Largest number of tokens per row, image tokens included.
        on_long (`str`): `"drop"` refuses a longer row. `"truncate"` cuts it at the right, unless that would cut an
            image or leave no answer.

    Raises:
        ValueError: If an option is out of its range, or answers cannot be found in the text of the chat template.
    """

    # True if no prompt token attends to a later one, so that prompts with the same beginning can share its pass.
    causal: ClassVar[bool] = True

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
        """Check that answers can be found in the text of the chat template."""
        check_chat_template(self.processor)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Encode one row.

        Args:
            row (`dict`): `images`, a list of images or None, and `messages`, whose image parts mark the places of these
                images in order.

        Returns:
            `dict`: Tensors, whose first axis is 1 or counts images, and the boolean `truncated`.

        Raises:
            ValueError: If an image is unreadable, the numbers of images and image parts differ, no answer is left, or
                the row is too long.
        """
        images = [open_image(image) for image in row["images"] or ()]
        encoded, labels = self._encode(images, [_without_empty_keys(message) for message in row["messages"]])
        tokens = encoded["input_ids"][0]
        is_image = torch.isin(tokens, torch.tensor(list(self.image_token_ids)))
        labels = labels.masked_fill(is_image, IGNORED_LABEL)
        length = self._kept_length(labels, is_image)
        inputs = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        inputs["labels"] = labels[None]
        for name, value in inputs.items():
            if value.shape[:2] == (1, len(tokens)):
                inputs[name] = value[:, :length]
        return {**inputs, TRUNCATED: length < len(tokens)}

    def _encode(self, images: list[Image.Image], messages: list[Message]) -> tuple[BatchFeature, Tensor]:
        """Return the processor's encoding of a conversation, and its labels of shape `(L,)`."""
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

    def text_tokens(self, messages: list[Message]) -> tuple[list[int], list[int]]:
        """Return the tokens of a conversation before images are expanded, and their labels.

        After the last image these are the tokens that the model reads.

        Args:
            messages (`list[dict]`): Messages as in a row, without empty keys.

        Returns:
            `tuple[list[int], list[int]]`: token ids, and one label per token.

        Raises:
            ValueError: If an answer cannot be found.
        """
        text, spans = answer_spans(self.processor, messages)
        tokens, _ = tokenize(self.processor.tokenizer, text)
        return tokens, answer_labels(self.processor.tokenizer, text, spans, tokens)

    def _kept_length(self, labels: Tensor, is_image: Tensor) -> int:
        """Return how many tokens of a row to keep, or raise a `RowProblem`."""
        if (labels == IGNORED_LABEL).all():
            raise RowProblem(NOTHING_TO_LEARN, "no token of an answer")
        if self.max_length is None or len(labels) <= self.max_length:
            return len(labels)
        cut_images, cut_labels = is_image[self.max_length :].any(), (labels[: self.max_length] == IGNORED_LABEL).all()
        if self.on_long == "drop" or cut_images or cut_labels:
            raise RowProblem(TOO_LONG, f"{len(labels)} tokens, max_length is {self.max_length}")
        return self.max_length


@dataclass
class PrefixEncoder(ConversationEncoder):
    """A `ConversationEncoder` for PaliGemma, which has no chat template.

    PaliGemma reads images and a prompt, with bidirectional attention, and then writes its answer. A row must be one
    question with at least one image, and its answer.
    """

    causal: ClassVar[bool] = False

    processor: PaliGemmaProcessor

    def _check(self) -> None:
        """Check nothing: there is no chat template."""

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

    def text_tokens(self, messages: list[Message]) -> tuple[list[int], list[int]]:
        """Do as `ConversationEncoder`, with blank images whose tokens are left out."""
        blank = Image.new("RGB", (8, 8))
        shown = sum(part["type"] == "image" for message in messages for part in message["content"])
        encoded, labels = self._encode([blank] * shown, messages)
        tokens = encoded["input_ids"][0]
        text = ~torch.isin(tokens, torch.tensor(list(self.image_token_ids)))
        return tokens[text].tolist(), labels[text].tolist()


def _without_empty_keys(message: Message) -> Message:
    """Remove the empty keys that a table adds to every part of a message."""
    parts = [{key: value for key, value in part.items() if value is not None} for part in message["content"]]
    return {**message, "content": parts}


def conversation_encoder(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    max_length: int | None = None,
    on_long: Literal["drop", "truncate"] = "drop",
) -> ConversationEncoder:
    """Make the encoder for the conversations of a model: a `PrefixEncoder` for PaliGemma, else a `ConversationEncoder`.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model, whose configuration names its image token.
        processor, max_length, on_long: As in `ConversationEncoder`.

    Returns:
        `ConversationEncoder`: The encoder.

    Raises:
        ValueError: As in `ConversationEncoder`, or if the configuration names no image token.
    """
    encoder = PrefixEncoder if isinstance(processor, PaliGemmaProcessor) else ConversationEncoder
    return encoder(processor, image_token_ids(model), max_length, on_long)


def image_token_ids(model: PreTrainedModel) -> list[int]:
    """Return the ids of the tokens that image and video features replace.

    Raises:
        ValueError: If the configuration of the model names no such token.
    """
    ids = [getattr(model.config, name, None) for name in ("image_token_id", "video_token_id")]
    if not any(isinstance(token, int) for token in ids):
        raise ValueError(f"the configuration of {type(model).__name__} names no image_token_id to find its images by")
    return [token for token in ids if isinstance(token, int)]
