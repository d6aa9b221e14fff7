"""Row hygiene: checks of cells that all formats share, and negative captions that cannot be used."""

import reprlib
from collections.abc import Sequence
from typing import Any

from .bad_rows import RowProblem

INVALID_NEGATIVE = "###"  # marks a slot without a negative in CE-CLIP's files


def check_record(record: Any) -> dict[str, Any]:
    """Return a record, or raise a `RowProblem` if it is not an object or has more cells than the header."""
    if not isinstance(record, dict):
        raise RowProblem("row is not an object", reprlib.repr(record))
    if None in record:
        raise RowProblem("row has more cells than the header", reprlib.repr(record[None]))
    return record


def check_id(value: Any) -> None:
    """Raise a `RowProblem` if an id is neither a number nor text. A missing id is fine."""
    if value is not None and not isinstance(value, (int, str)):
        raise RowProblem("id is neither a number nor text", reprlib.repr(value))


def storable(text: str) -> str:
    """Return a text, or raise a `RowProblem` if it contains half a surrogate pair.

    JSON can spell one, but UTF-8 cannot encode it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowProblem("text is not Unicode", ascii(text)) from error
    return text


def normalised(text: str) -> str:
    """Remove from a caption what does not change its meaning: case, extra spaces and final punctuation.

    Example:

        >>> normalised(" A gray  cat.")
        'a gray cat'
    """
    return " ".join(text.casefold().split()).rstrip(" .,;:!?")


def clean_negatives(
    caption: str, negatives: Sequence[str], mask: Sequence[int] | None = None
) -> tuple[list[str], list[int], list[str]]:
    """Drop the unusable negatives of a caption, or mask them if their slots have a type.

    A negative is unusable if it is empty, marked invalid, or equal to its caption or to an earlier negative, as
    [`normalised`] compares them.

    Args:
        caption (`str`): The true caption.
        negatives (`Sequence[str]`): Its negatives.
        mask (`Sequence[int]`, *optional*): One number per negative, 0 if it is known to be unusable. With a mask each
            slot has a type of its own, so an unusable negative keeps its place and is masked. Without one it is
            dropped.

    Returns:
        `tuple[list[str], list[int], list[str]]`: the negatives, their mask of 0 and 1, and the fault of each unusable
        negative.

    Example:

        >>> clean_negatives("A dog.", ["A cat.", "a dog", "A cat"])
        (['A cat.'], [1], ['negative equal to its caption', 'negative repeated in its row'])
    """
    own = normalised(caption)
    seen = {own}
    texts, valid, faults = [], [], []
    for slot, negative in enumerate(negatives):
        words = normalised(negative)
        if words == INVALID_NEGATIVE or (mask is not None and not mask[slot]):
            fault = "negative marked invalid"
        elif not words:
            fault = "negative empty"
        elif words in seen:
            fault = "negative equal to its caption" if words == own else "negative repeated in its row"
        else:
            fault = None
            seen.add(words)
        if fault is not None:
            faults.append(fault)
        if fault is None or mask is not None:
            texts.append(negative)
            valid.append(int(fault is None))
    return texts, valid, faults
