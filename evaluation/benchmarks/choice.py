"""Choosing the true caption among false ones: the scorer that all such benchmarks share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..baselines import blind_baselines
from ..metrics import as_scores, bootstrap_interval, caption_choice
from ..results import Score
from .base import Benchmark


def families_of_seven(kinds: Sequence[str]) -> dict[str, list[str]]:
    """Group the seven kinds that SugarCrepe introduced, by the first word of their names.

    Args:
        kinds (sequence of `str`): Names that start with `replace_`, `swap_` or `add_`.

    Returns:
        `dict`: the kinds of `replace`, `swap` and `add`, of `without_add`, and `all`.
    """
    families = {word: [kind for kind in kinds if kind.startswith(f"{word}_")] for word in ("replace", "swap", "add")}
    return families | {"without_add": families["replace"] + families["swap"], "all": list(kinds)}


def columns_of_seven(kinds: Sequence[str]) -> dict[str, str]:
    """Shorten the names of kinds to column titles, such as "swap att"."""
    return {kind: kind[: kind.index("_") + 4].replace("_", " ") for kind in kinds}


@dataclass(frozen=True)
class ChoiceItem:
    """One image and several captions, of which the first is true.

    Args:
        key (`str`): Name of the item inside its kind.
        kind (`str`): What distinguishes the captions.
        image (path, bytes, `dict` or `PIL.Image.Image`): The image.
        captions (`tuple[str, ...]`): The true caption, then the false ones; equally many in every item.
        cluster (`str`): Shared by items that are not independent, such as those of one image; intervals allow for it.
    """

    key: str
    kind: str
    image: Any
    captions: tuple[str, ...]
    cluster: str


class CaptionChoice(Benchmark):
    """A choice between captions, scored strictly (a tie is a miss), by kind and over families of kinds.

    Metrics: the accuracy of each kind, and for each family `<family>_micro` over items and `<family>_macro` over kinds.

    Args:
        items (sequence of `ChoiceItem`): At least one.
        training_captions (sequence of `str`, optional): Captions that the blind language models are fitted on.
        n_listed (`int`, optional): Items that the benchmark lists; by default all are found.
        notes (sequence of `str`): What a reader of the scores must know.

    Attributes:
        families (mapping of `str` to kinds): Averages to form; a kind without items is left out of them.

    Raises:
        ValueError: If there is no item.
    """

    families: ClassVar[Mapping[str, Sequence[str]]]

    def __init__(
        self,
        items: Sequence[ChoiceItem],
        training_captions: Sequence[str] | None = None,
        n_listed: int | None = None,
        notes: Sequence[str] = (),
    ):
        if not items:
            raise ValueError(f"{self.name}: no items")
        self.items = list(items)
        self.kinds = np.array([item.kind for item in self.items])
        self.clusters = np.array([item.cluster for item in self.items])
        self.baseline_scores = blind_baselines([item.captions for item in self.items], training_captions)
        texts = [caption for item in self.items for caption in item.captions]
        super().__init__(
            images=[item.image for item in self.items],
            texts=texts,
            image_groups=np.arange(len(self.items))[:, None],
            text_groups=np.arange(len(texts)).reshape(len(self.items), -1),
            n_found=len(self.items),
            n_listed=n_listed,
            notes=notes,
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices; see `Benchmark.score`."""
        scores = as_scores(scores)[:, :, 0]  # (items, captions)
        correct = scores[:, 0] > scores[:, 1:].max(axis=1)
        chosen = choice_accuracies(scores, self.kinds, self.families)
        blind = {
            name: choice_accuracies(blind_scores, self.kinds, self.families)
            for name, blind_scores in self.baseline_scores.items()
        }
        metrics = {
            name: Score(
                value=chosen[name]["strict"],
                n=chosen[name]["n"],
                interval=bootstrap_interval(
                    correct[pool.items],
                    groups=self.kinds[pool.items] if pool.macro else None,
                    clusters=self.clusters[pool.items],
                ),
                chance=1 / scores.shape[1],
                tie_rate=chosen[name]["tie_rate"],
                half_credit=chosen[name]["half_credit"],
                baselines={baseline: accuracies[name] for baseline, accuracies in blind.items()},
            )
            for name, pool in _pools(self.kinds, self.families).items()
        }
        rows = [
            {
                "kind": item.kind,
                "item": item.key,
                "captions": item.captions,
                "scores": row.tolist(),
                "correct": bool(hit),
            }
            for item, row, hit in zip(self.items, scores, correct, strict=True)
        ]
        return metrics, rows


def choice_accuracies(
    scores: np.ndarray, kinds: np.ndarray, families: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float | int]]:
    """Score choices by kind and over families of kinds.

    Args:
        scores (`numpy.ndarray` of shape `(items, captions)`): The true caption's score first.
        kinds (`numpy.ndarray` of shape `(items,)`): Kind of each item.
        families (mapping of `str` to kinds): Averages to form.

    Returns:
        `dict`: what `caption_choice` returns, for each kind, `<family>_micro` (over items) and `<family>_macro` (the
        mean over the family's kinds).
    """
    return {
        name: _mean_choice([_choice(scores[pool.items & (kinds == kind)]) for kind in np.unique(kinds[pool.items])])
        if pool.macro
        else _choice(scores[pool.items])
        for name, pool in _pools(kinds, families).items()
    }


class _Pool(NamedTuple):
    """Items that are averaged together: `items` is a boolean mask; with `macro`, inside each kind first."""

    items: np.ndarray
    macro: bool


def _pools(kinds: np.ndarray, families: Mapping[str, Sequence[str]]) -> dict[str, _Pool]:
    """Name every average: the kinds in the order of the items, then the families that have an item."""
    pools = {str(kind): _Pool(kinds == kind, macro=False) for kind in dict.fromkeys(kinds)}
    for family, members in families.items():
        items = np.isin(kinds, members)
        if items.any():
            pools[f"{family}_micro"] = _Pool(items, macro=False)
            pools[f"{family}_macro"] = _Pool(items, macro=True)
    return pools


def _choice(scores: np.ndarray) -> dict[str, float | int]:
    """Score the first caption against the best of the others."""
    return caption_choice(scores[:, 0], scores[:, 1:].max(axis=1))


def _mean_choice(choices: list[dict[str, float | int]]) -> dict[str, float | int]:
    """Average the shares of several choices, each counting once, and add up their items."""
    means = {key: sum(choice[key] for choice in choices) / len(choices) for key in choices[0]}
    return means | {"n": sum(choice["n"] for choice in choices)}
