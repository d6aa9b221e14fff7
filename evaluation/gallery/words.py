"""The words in which a true and a false caption differ."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

# A piece of a text, and whether it differs.
Piece = tuple[str, bool]

WORD = re.compile(r"\w")
TOKEN = re.compile(r"\w+(?:['\u2019.-]\w+)*|\s+|[^\w\s]")


def marked(texts: Sequence[str], true: Sequence[bool]) -> list[list[Piece]]:
    """Mark the words in which true and false texts differ; case and punctuation do not count.

    A false text is compared with the first true one; a true text is compared with every false one.

    Example:

    ```python
    >>> marked(["A red cup.", "A blue cup."], [True, False])
    [[('A ', False), ('red', True), (' cup.', False)], [('A ', False), ('blue', True), (' cup.', False)]]

    ```

    Args:
        texts (sequence of `str`): Texts.
        true (sequence of `bool`): Whether each of them is true.

    Returns:
        `list[list[tuple[str, bool]]]`: the pieces of each text, in order, and whether each piece differs. Without a
        true or a false text nothing is marked.
    """
    tokens = [TOKEN.findall(text) for text in texts]
    trues = [k for k, is_true in enumerate(true) if is_true]
    falses = [k for k, is_true in enumerate(true) if not is_true]
    differing: list[set[int]] = [set() for _ in texts]
    for own in trues:
        for other in falses:
            here, there = _differing(tokens[own], tokens[other])
            differing[own] |= here
            if own == trues[0]:
                differing[other] = there
    return [_pieces(words, marks) for words, marks in zip(tokens, differing, strict=True)]


def _differing(one: Sequence[str], other: Sequence[str]) -> tuple[set[int], set[int]]:
    """Return the positions of the words that only one of two texts has in its place."""
    places = [[k for k, token in enumerate(tokens) if WORD.match(token)] for tokens in (one, other)]
    here, there = ([tokens[k].casefold() for k in kept] for tokens, kept in zip((one, other), places, strict=True))
    matcher = SequenceMatcher(None, here, there, autojunk=False)
    changed = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
    found = [k for _, start, end, _, _ in changed for k in range(start, end)]
    found_there = [k for _, _, _, start, end in changed for k in range(start, end)]
    if len(here) == len(there):
        # Two words that changed places: word by word fewer differ than outside the longest common part.
        swapped = [k for k, (word, other_word) in enumerate(zip(here, there, strict=True)) if word != other_word]
        if len(swapped) <= len(found):
            found = found_there = swapped
    return {places[0][k] for k in found}, {places[1][k] for k in found_there}


def _pieces(tokens: Sequence[str], differing: set[int]) -> list[Piece]:
    """Join neighbouring tokens that are both marked, or both not; a space between two marked words is marked."""
    pieces: list[Piece] = []
    for k, token in enumerate(tokens):
        mark = k in differing or (token.isspace() and {k - 1, k + 1} <= differing)
        if pieces and pieces[-1][1] == mark:
            pieces[-1] = (pieces[-1][0] + token, mark)
        else:
            pieces.append((token, mark))
    return pieces
