"""The likelihood of given answers to questions about an image; the image passes through the model once for all."""

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from ...data.chat import IGNORED_LABEL
from ...data.chat.encoder import TRUNCATED, conversation_encoder
from ...data.features.encode import evaluating
from ...data.images import ImageSource, open_image
from ...data.readers.conversation_formats import Message, text_part

ROWS_REMEMBERED = 20_000  # a text that is asked about many images is tokenized once

Row = tuple[list[int], list[int]]  # tokens, and labels: the token itself in an answer, -100 elsewhere


class ScoredAnswer(NamedTuple):
    """The likelihood of an answer's tokens.

    Args:
        log_probs (`numpy.ndarray` of shape `(tokens,)`): Natural logarithm of each token's probability after the
            question and the tokens before it; float64, <= 0.
        likeliest (`numpy.ndarray` of shape `(tokens,)`): Whether each token is the most likely one at its position.
        words (`int`): Number of tokens before the end token.
    """

    log_probs: np.ndarray
    likeliest: np.ndarray
    words: int


class AnswerScorer:
    """Scores answers, and the end token after each, in the model's own chat template.

    The beginning that all conversations about an image share, with the image in it, passes through the model once. The
    conversations continue from its cache, in batches of similar length. Up to rounding this equals a forward pass of
    each conversation alone. Logits are computed only at the tokens of answers.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model. Its device, data type and training mode stay as they
            are.
        processor (`ProcessorMixin`): Its processor, with a chat template, or PaliGemma's.
        batch_size (`int`): Conversations per forward pass.

    Attributes:
        beginnings (`int`): Shared beginnings that passed through the model so far: one per image where the
            conversations can share it.
        batches (`int`): Batches of continuations that were scored so far.

    Raises:
        ValueError: If answers cannot be located in what the chat template renders, or the model reads images through
            cross-attention.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, batch_size: int = 32):
        if getattr(model.config.get_text_config(), "cross_attention_layers", None):
            raise ValueError(
                f"{type(model).__name__} reads images through cross-attention, not as tokens of the text, so answers "
                "cannot be scored from a shared beginning"
            )
        self.model = model
        self.batch_size = batch_size
        self.beginnings = 0
        self.batches = 0
        self._encode = conversation_encoder(model, processor)
        tokenizer = processor.tokenizer
        self._placeholder = tokenizer.convert_tokens_to_ids(processor.image_token)
        self._special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        self._text_row = lru_cache(ROWS_REMEMBERED)(self._make_text_row)

    def __call__(self, image: ImageSource | None, conversations: Sequence[tuple[str, str]]) -> list[ScoredAnswer]:
        """Score answers to questions about an image.

        Args:
            image (path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`, *optional*): The image. With `None` the
                conversations have no image.
            conversations (sequence of `tuple[str, str]`): Questions and their answers.

        Returns:
            `list[ScoredAnswer]`, aligned with the conversations.

        Raises:
            ValueError: If the image cannot be read, or an answer cannot be located among the tokens.
        """
        images = [] if image is None else [open_image(image)]
        rows = [self._text_row(question, answer, bool(images)) for question, answer in conversations]
        scored: dict[int, ScoredAnswer] = {}
        with evaluating(self.model):
            for members in self._sharing([question for question, _ in conversations], rows):
                shared = _shared([rows[place] for place in members])
                ends = [(tokens[shared:], labels[shared:]) for tokens, labels in (rows[place] for place in members)]
                beginning = self._beginning(images, conversations[members[0]], ends[0][0])
                self.beginnings += 1
                self.batches += math.ceil(len(ends) / self.batch_size)
                judged = continued_log_probs(self.model, beginning, ends, self.batch_size)
                scored |= {
                    place: ScoredAnswer(log_probs.numpy(), likeliest.numpy(), self._words(rows[place]))
                    for place, (log_probs, likeliest) in zip(members, judged, strict=True)
                }
        return [scored[place] for place in range(len(rows))]

    def _make_text_row(self, question: str, answer: str, shown: bool) -> Row:
        """Tokens and labels of a conversation, with one placeholder per image."""
        return self._encode.text_tokens(_messages(question, answer, shown))

    def _words(self, row: Row) -> int:
        """Number of tokens of an answer before its end token."""
        answer = [label for label in row[1] if label != IGNORED_LABEL]
        return len(answer) - (answer[-1] in self._special)

    def _sharing(self, questions: Sequence[str], rows: Sequence[Row]) -> list[list[int]]:
        """Group the conversations that share a beginning with the image in it: all, or those of the same question."""
        shared = _shared(rows)
        if self._encode.causal and shared and all(self._placeholder not in tokens[shared:] for tokens, _ in rows):
            return [list(range(len(rows)))]
        places: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(question, []).append(place)
        return list(places.values())

    def _beginning(
        self, images: list[Image.Image], conversation: tuple[str, str], rest: list[int]
    ) -> dict[str, Tensor]:
        """The model's inputs for a conversation without the last tokens, `rest`."""
        inputs = self._encode({"images": images, "messages": _messages(*conversation, bool(images))})
        del inputs["labels"], inputs[TRUNCATED]
        tokens = inputs["input_ids"][0].tolist()
        length = len(tokens) - len(rest)
        if tokens[length:] != rest:
            raise ValueError(
                f"{conversation[1]!r}: the tokens after the image differ from those of the text alone, so answers "
                "cannot be scored from a shared beginning"
            )
        return {
            name: _placed(value[:, :length] if value.shape[:2] == (1, len(tokens)) else value, self.model)
            for name, value in inputs.items()
        }


@torch.inference_mode()
def continued_log_probs(
    model: PreTrainedModel, beginning: dict[str, Tensor], rows: Sequence[Row], batch_size: int
) -> list[tuple[Tensor, Tensor]]:
    """Score the answers of conversations after their shared beginning, which passes through the model once.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model in evaluation mode.
        beginning (`dict`): Inputs of one row, without padding, on the model's device.
        rows (sequence of `tuple[list[int], list[int]]`): The rest of each conversation: tokens and labels.
        batch_size (`int`): Rows per forward pass.

    Returns:
        `list[tuple[torch.Tensor, torch.Tensor]]`: Per row, for its labelled tokens: the log-probabilities, float64, of
        shape `(tokens,)`, and whether each token is the most likely one at its position, of shape `(tokens,)`.
    """
    seen = model(**beginning, use_cache=True, logits_to_keep=1)
    length = beginning["input_ids"].shape[1]
    text_alone = all(value.shape == (1, length) for value in beginning.values())
    scored: dict[int, tuple[Tensor, Tensor]] = {}
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    for start in range(0, len(rows), batch_size):
        places = order[start : start + batch_size]
        # Padding comes after the tokens of a row, which cannot see it, so that any token will do.
        tokens = _padded([rows[place][0] for place in places], padding=rows[0][0][-1]).to(model.device)
        labels = _padded([rows[place][1] for place in places], padding=IGNORED_LABEL)
        log_probs, likeliest = torch.zeros(labels.shape, dtype=torch.float64), torch.zeros(labels.shape).bool()
        log_probs[:, :1], likeliest[:, :1] = _judged(seen.logits, labels[:, :1])
        asked = 1 + (labels[:, 1:] != IGNORED_LABEL).any(0).nonzero()[:, 0]
        if len(asked):
            cache = deepcopy(seen.past_key_values)  # the next batch continues from the same beginning
            cache.batch_repeat_interleave(len(tokens))
            inputs = {"input_ids": tokens[:, :-1]}  # no mask: with one, Qwen2-VL would count positions from 0 again
            if text_alone:  # and without an image it would continue the positions of the last image that it saw
                places_of_text = torch.arange(length, length + tokens.shape[1] - 1, device=tokens.device)
                inputs["position_ids"] = places_of_text.expand(len(tokens), -1)
            logits = model(
                **inputs,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=(asked - 1).to(tokens.device),
            ).logits  # (B, asked, V)
            log_probs[:, asked], likeliest[:, asked] = _judged(logits, labels[:, asked])
        answers = labels != IGNORED_LABEL
        scored |= {place: (log_probs[k, answers[k]], likeliest[k, answers[k]]) for k, place in enumerate(places)}
    return [scored[place] for place in range(len(rows))]


def _messages(question: str, answer: str, shown: bool) -> list[Message]:
    """A question and its answer; the question begins with the image, if one is shown."""
    images: list[dict[str, str | None]] = [{"type": "image"}] if shown else []
    return [
        {"role": "user", "content": [*images, text_part(question)]},
        {"role": "assistant", "content": [text_part(answer)]},
    ]


def _shared(rows: Sequence[Row]) -> int:
    """Number of tokens that the rows have in common before the first answer."""
    prompts = (tokens[: _first(labels)] for tokens, labels in rows)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))


def _first(labels: list[int]) -> int:
    """Position of the first token of an answer."""
    return next(place for place, label in enumerate(labels) if label != IGNORED_LABEL)


def _padded(rows: Sequence[list[int]], padding: int) -> Tensor:
    """Stack rows as a tensor, padded at the end."""
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])


def _judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Find the log-probability of each label `(B, T)`, 0 without one, and whether it has the highest logit.

    Logits are of shape `(B, T, V)` or `(1, T, V)`.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).expand(len(labels), -1, -1)
    asked = labels.to(logits.device)
    found = logits.log_softmax(-1).gather(-1, asked.clamp(min=0)[..., None])[..., 0]
    return (found * (asked != IGNORED_LABEL)).double().cpu(), (logits.argmax(-1) == asked).cpu()


def _placed(value: Tensor, model: PreTrainedModel) -> Tensor:
    """Move an input to the model's device, and pixels to its data type."""
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
