"""Which tokens of a conversation are the assistant's, found with the processor's own chat template, whatever it is."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from .bad_rows import RowProblem
from .conversation_formats import Message

logger = logging.getLogger(__name__)

IGNORED = -100  # the label of a token that is no part of an answer, which torch's cross-entropy leaves out
Span = tuple[int, int]  # first character, and the one after the last


def answer_spans(processor: ProcessorMixin, messages: Sequence[Message]) -> tuple[str, list[Span]]:
    """Render a conversation and find the assistant's answers in it, by rendering it up to each of them.

    Args:
        processor (`ProcessorMixin`): With a chat template.
        messages (`Sequence[dict]`): The turns, `role` and `content` each, the content as a list of parts.

    Returns:
        The text, and the characters of each answer: from where the assistant is asked to speak, up to and with its end
        token. White space that the template puts behind that is no part of it.

    Raises:
        RowProblem: If an answer follows no question, or the template renders the beginning of a conversation
            otherwise once the conversation goes on.
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
                f"its text up to message {place} is not how its text of all {len(messages)} messages begins, so the "
                "answer cannot be found in it",
            )
        spans.append((len(before), len(after.rstrip())))
    return text, spans


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[Span]]:
    """Token ids of a rendered conversation, and the characters of each."""
    encoded = tokenizer(text, add_special_tokens=needs_special_tokens(tokenizer, text), return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def needs_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the tokenizer has to add the beginning that this text lacks; transformers' own chat pipeline's rule."""
    return tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token)


def answer_labels(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span], input_ids: list[int]
) -> list[int]:
    """Label the tokens of the answers among those that the model gets, in which each image has grown to many tokens.

    The text is tokenized once more as it stands, which tells the characters of each token. A token of an answer then
    moves as far as the images before it have grown, and must meet itself there.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The processor's.
        text (`str`): The rendered conversation.
        spans (`Sequence`): The characters of its answers.
        input_ids (`list[int]`): What the processor makes of the text and its images, L tokens.

    Returns:
        L labels: the token itself in an answer, -100 elsewhere.

    Raises:
        RowProblem: If a token of an answer is not where it must be, for instance because an answer shows an image.
    """
    plain, characters = tokenize(tokenizer, text)
    moves = _moves(plain, input_ids)
    labels = [IGNORED] * len(input_ids)
    for span in spans:
        places = [place for place, token in enumerate(characters) if _overlap(token, span)]
        if not places:
            continue
        answer = plain[places[0] : places[-1] + 1]
        votes = Counter(moves[place] for place in places if place in moves)
        start = places[0] + max(votes, key=votes.get, default=len(input_ids))  # out of reach without a vote
        target = slice(start, start + len(answer))
        if input_ids[target] != answer:
            raise RowProblem(
                "answer lost", f"{text[slice(*span)]!r} is not among the tokens that the processor makes of its images"
            )
        labels[target] = answer
    return labels


def _moves(plain: Iterable[int], expanded: Iterable[int]) -> dict[int, int]:
    """How far each token of the plain text has moved; only of tokens that occur equally often, so not those of images.

    What images add comes between the other tokens, so the first of a kind is still the first, the second the second.
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
    """Whether two spans share a character."""
    return max(one[0], other[0]) < min(one[1], other[1])


def check_chat_template(processor: ProcessorMixin) -> None:
    """Refuse a chat template in which answers cannot be found, and warn of one that does not end them.

    Args:
        processor (`ProcessorMixin`): The processor to train with.

    Raises:
        ValueError: If it has no chat template, or one whose text of a conversation does not begin as its text of the
            conversation's beginning.
    """
    tokenizer = processor.tokenizer
    words = (("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four."))
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in words]
    text, spans = answer_spans(processor, messages)
    labels = answer_labels(tokenizer, text, spans, tokenize(tokenizer, text)[0])
    last = [label for label in labels if label != IGNORED][-1]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    if last not in special:
        logger.warning(
            "the chat template ends an answer with no special token (%r): the model will not learn to stop. Let the "
            "template put an end token such as %s behind each answer.",
            text[slice(*spans[-1])],
            tokenizer.eos_token,
        )
