"""Labels of conversations: the tokens of the assistant's answers, found with any chat template."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ..readers.bad_rows import RowProblem
from ..readers.conversation_formats import Message
from . import IGNORED_LABEL

logger = logging.getLogger(__name__)

Span = tuple[int, int]  # the first character, and the one after the last


def answer_spans(processor: ProcessorMixin, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """Render a conversation, and find each answer of the assistant by rendering the conversation up to it.

    Args:
        processor (`ProcessorMixin`): A processor with a chat template.
        messages (`Sequence[dict]`): The turns, each with `role` and `content`, a list of parts.

    Returns:
        `tuple[str, list[tuple[int, int]]]`: the text, and the characters of each answer, from the end of the generation
        prompt up to and including the end token. White space after the end token is excluded.

    Raises:
        RowProblem: If the assistant speaks first, or if the template renders the beginning of a conversation
            differently once the conversation continues.
    """
    text = processor.apply_chat_template(messages)
    spans = []
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if place == 0:
            raise RowProblem("answer without a question", "the assistant speaks first")
        before = processor.apply_chat_template(messages[:place], add_generation_prompt=True)
        after = processor.apply_chat_template(messages[: place + 1])
        if not (after.startswith(before) and text.startswith(after)):
            raise RowProblem(
                "the chat template renders no prefixes",
                f"its text up to message {place} is not the beginning of its text of all {len(messages)} messages, so "
                "the answer cannot be found",
            )
        spans.append((len(before), len(after.rstrip())))
    return text, spans


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    """Return the token ids of a rendered conversation, and the characters of each token."""
    encoded = tokenizer(text, add_special_tokens=needs_special_tokens(tokenizer, text), return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def needs_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Return whether the tokenizer must add the BOS that a text lacks, by the rule of transformers' chat pipeline."""
    return tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)


def answer_labels(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span], input_ids: list[int]
) -> list[int]:
    """Label the tokens of the answers among the model's tokens, in which each image is expanded to many tokens.

    The text is tokenized a second time without expansion, which gives the characters of each token. The tokens of an
    answer are then shifted by the expansion of the images before them, and must be found there.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer of the processor.
        text (`str`): The rendered conversation.
        spans (`Sequence[tuple[int, int]]`): The characters of its answers.
        input_ids (`list[int]`): The L tokens that the processor returns for the text and its images.

    Returns:
        `list[int]`: L labels, the token itself in an answer and -100 elsewhere.

    Raises:
        RowProblem: If the tokens of an answer are not found, for example because the answer shows an image.
    """
    plain, characters = tokenize(tokenizer, text)
    moves = _moves(plain, input_ids)
    labels = [IGNORED_LABEL] * len(input_ids)
    for span in spans:
        places = [place for place, token in enumerate(characters) if _overlap(token, span)]
        if not places:
            continue
        answer = plain[places[0] : places[-1] + 1]
        votes = Counter(moves[place] for place in places if place in moves)
        start = places[0] + max(votes, key=votes.__getitem__, default=len(input_ids))  # out of range without a vote
        target = slice(start, start + len(answer))
        if input_ids[target] != answer:
            raise RowProblem(
                "answer lost", f"{text[slice(*span)]!r} is not among the tokens that the processor returns"
            )
        labels[target] = answer
    return labels


def _moves(plain: Iterable[int], expanded: Iterable[int]) -> dict[int, int]:
    """Return the shift of each plain token by image expansion, for tokens that occur equally often in both lists.

    Expansion only inserts tokens between the others, so the n-th occurrence of such a token stays its n-th. Image
    tokens do not occur equally often and get no entry.
    """
    places, targets = defaultdict(list), defaultdict(list)
    for place, token in enumerate(plain):
        places[token].append(place)
    for target, token in enumerate(expanded):
        targets[token].append(target)
    return {
        place: target - place
        for token, here in places.items()
        if len(here) == len(targets[token])
        for place, target in zip(here, targets[token], strict=True)
    }


def _overlap(one: Span, other: Span) -> bool:
    """Return whether two spans share a character."""
    return max(one[0], other[0]) < min(one[1], other[1])


def check_chat_template(processor: ProcessorMixin) -> None:
    """Check that answers can be found in the text of a chat template, and warn if it does not end them.

    Args:
        processor (`ProcessorMixin`): The processor to train with.

    Raises:
        ValueError: If it has no chat template, or one that renders the beginning of a conversation differently once
            the conversation continues.
    """
    tokenizer = processor.tokenizer
    words = (("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four."))
    messages: list[Message] = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in words]
    text, spans = answer_spans(processor, messages)
    labels = answer_labels(tokenizer, text, spans, tokenize(tokenizer, text)[0])
    last = [label for label in labels if label != IGNORED_LABEL][-1]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    if last not in special:
        logger.warning(
            "the chat template does not end an answer with a special token (%r), so the model will not learn to stop; "
            "let the template put an end token such as %s after each answer",
            text[slice(*spans[-1])],
            tokenizer.eos_token,
        )
