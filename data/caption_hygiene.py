"""What makes a negative caption unusable: being empty, being the caption itself, or being there already."""

from collections import Counter
from collections.abc import Sequence

INVALID_NEGATIVE = "###"  # a slot without a negative, in CE-CLIP's files


def normalised(text: str) -> str:
    """Strip a caption of what does not change its meaning: case, extra spaces, final punctuation."""
    return " ".join(text.casefold().split()).rstrip(" .,;:!?")


def clean_negatives(
    caption: str, negatives: Sequence[str], mask: Sequence[int] | None, notes: Counter[str]
) -> tuple[list[str], list[int]]:
    """Drop the unusable negatives of one caption, or mask them where a slot has a type.

    Args:
        caption (`str`): The true caption.
        negatives (sequence of `str`): Its negatives.
        mask (sequence of `int`, *optional*): 0 where a slot is known to be unusable. None if slots have no type: then
            an unusable negative is dropped instead of masked.
        notes (`Counter[str]`): Counts each kind of unusable negative; changed in place.

    Returns:
        The negatives and, as long, their mask of 0 and 1.
    """
    own = normalised(caption)
    seen = {own}
    texts, valid = [], []
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
            notes[fault] += 1
        if fault is None or mask is not None:
            texts.append(negative)
            valid.append(int(fault is None))
    return texts, valid
