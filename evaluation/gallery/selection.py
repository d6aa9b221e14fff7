"""Which items of a large benchmark the gallery shows."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any


def choose(kinds: Sequence[str], outcomes: Sequence[Hashable], names: Sequence[str], count: int) -> list[int]:
    """Choose items evenly over kinds, and within a kind evenly over outcomes.

    Kinds take turns, and so do the outcomes of a kind, so that a rare outcome is shown as often as a frequent one while
    it lasts. Among equals the hash of the item's name decides: the choice depends on nothing but the arguments.

    Args:
        kinds (sequence of `str`): Kind of each item.
        outcomes (sequence of hashable): Outcome of each item.
        names (sequence of `str`): Name of each item.
        count (`int`): Number of items to choose, >= 0; fewer where there are fewer.

    Returns:
        `list[int]`: positions of the chosen items, in the order of the turns.
    """
    groups: dict[str, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place in sorted(range(len(names)), key=lambda place: (_hash(kinds[place], names[place]), place)):
        groups[kinds[place]][outcomes[place]].append(place)
    # Rare outcomes first: a reader of the first items meets them all.
    of_kinds = [
        list(_in_turns(sorted(of_kind.values(), key=len))) for of_kind in (groups[kind] for kind in sorted(groups))
    ]
    return list(_in_turns(of_kinds))[:count]


def _in_turns(rows: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Take the first entry of each row, then the second of each, and so on; a row that is used up is left out."""
    waiting = deque(iter(row) for row in rows)
    while waiting:
        row = waiting.popleft()
        for entry in row:
            yield entry
            waiting.append(row)
            break


def _hash(kind: str, name: str) -> str:
    """Return a number that looks random and is always the same."""
    return hashlib.sha256(f"{kind}/{name}".encode()).hexdigest()
