"""Choice between a true caption and false ones, as many benchmarks ask for it."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...data.images import file_name
from ..blind.text import blind_baselines
from ..metrics import as_scores, bootstrap_interval, caption_choice
from ..results import Score
from .base import Benchmark
from .coverage import FoundImages

# The kinds that an average is taken over: a list of kinds, or named branches, each a tree. Siblings count equally.
Tree = Sequence[str] | Mapping[str, "Tree"]

# A kind that a blind baseline nearly solves does not test seeing. It is flagged from this many items and this credit.
FLAGGED_ITEMS, FLAGGED_CREDIT = 30, 0.9


def families_of_seven(kinds: Sequence[str]) -> dict[str, list[str]]:
    """Group the seven kinds of false captions that SugarCrepe introduced by the first word of their names.

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
        key (`str`): Name of the item, unique within its kind.
        kind (`str`): Kind of difference between the captions, such as "swap_att".
        image (path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): The image.
        captions (`tuple[str, ...]`): The true caption, then the false ones; the same number in every item.
        cluster (`str`): Shared by items that are not independent, such as those of one image. Intervals resample whole
            clusters.
    """

    key: str
    kind: str
    image: Any
    captions: tuple[str, ...]
    cluster: str


class CaptionChoice(Benchmark):
    """A choice between captions, scored strictly (a tie is a miss), by kind and over families of kinds.

    Metrics: the accuracy of each kind, and for each family `<family>_micro`, over items, and `<family>_macro`, over
    kinds. The notes name each kind that a blind baseline nearly solves and each kind of a family that has no items.

    Args:
        items (sequence of `ChoiceItem`): At least one.
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on. Without them,
            the blind baseline is the length of the captions.
        found (`FoundImages`, *optional*): The search for the items' images. Default: all listed items are there.
        notes (sequence of `str`): Notes for readers of the scores.

    Attributes:
        families (mapping of `str` to `Tree`): Averages to form; they leave out kinds without items.
        true_captions (`int`): Number of true captions of an item, which come first.
        missing_images (`list[str]`): Names of the images that were not found.

    Raises:
        ValueError: If there is no item.
    """

    ability = "composition"
    families: ClassVar[Mapping[str, Tree]]
    true_captions: ClassVar[int] = 1

    def __init__(
        self,
        items: Sequence[ChoiceItem],
        training_captions: Sequence[str] | None = None,
        found: FoundImages | None = None,
        notes: Sequence[str] = (),
    ):
        if not items:
            raise ValueError(f"{self.name}: no items")
        found = found or FoundImages(paths=[None] * len(items), missing=[], notes=[])
        self.items = list(items)
        self.missing_images = found.missing
        self.kinds = np.array([item.kind for item in self.items])
        self.clusters = np.array([item.cluster for item in self.items])
        self.baseline_scores = self.blind_scores(training_captions)
        texts = [caption for item in self.items for caption in item.captions]
        super().__init__(
            images=[item.image for item in self.items],
            texts=texts,
            image_groups=np.arange(len(self.items))[:, None],
            text_groups=np.arange(len(texts)).reshape(len(self.items), -1),
            n_found=len(self.items),
            n_listed=len(found.paths),
            notes=[*notes, *found.notes, *self._empty_kinds(), *self._solved_blind()],
        )

    def blind_scores(self, training_captions: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Score the captions without their images: per baseline, an array of shape `(items, captions)`."""
        return blind_baselines([item.captions for item in self.items], training_captions)

    def with_baseline(self, name: str, scores: np.ndarray) -> "CaptionChoice":
        """Return the same choice with one more blind baseline.

        Args:
            name (`str`): Name of the baseline.
            scores (`numpy.ndarray` of shape `(items, captions)`): Its scores of the captions.

        Returns:
            `CaptionChoice`: a copy; this benchmark stays as it is.
        """
        other = copy(self)
        other.baseline_scores = {**self.baseline_scores, name: scores}
        return other

    def options(self, scores: np.ndarray) -> np.ndarray:
        """Turn the scores of captions, `(items, captions)`, into scores of options, the right option first."""
        return scores

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices; see `Benchmark.score`."""
        scores = as_scores(scores)[:, :, 0]  # (items, captions)
        options = self.options(scores)
        blind = {name: self.options(blind_scores) for name, blind_scores in self.baseline_scores.items()}
        metrics = score_choices(options, blind, self.kinds, self.clusters, self.families, chance=1 / scores.shape[1])
        rows = [
            {
                "kind": item.kind,
                "item": item.key,
                "image": file_name(item.image),
                "captions": item.captions,
                "scores": row.tolist(),
                "correct": bool(hit),
            }
            for item, row, hit in zip(self.items, scores, strictly_correct(options), strict=True)
        ]
        return metrics, rows

    def _empty_kinds(self) -> list[str]:
        """Note the kinds that averages leave out because they have no items."""
        listed = {kind for tree in self.families.values() for kind in kind_shares(tree)}
        empty = sorted(listed - set(self.kinds.tolist()))
        return [f"averages leave out kinds without items: {', '.join(empty)}"] if empty else []

    def _solved_blind(self) -> list[str]:
        """Note the kinds that a baseline nearly solves without the image."""
        return [
            f"{kind} is nearly solved without the image: {100 * choice['half_credit']:.1f} % by {name}"
            for name, blind_scores in self.baseline_scores.items()
            for kind, choice in choice_accuracies(self.options(blind_scores), self.kinds, {}).items()
            if choice["n"] >= FLAGGED_ITEMS and choice["half_credit"] >= FLAGGED_CREDIT
        ]


def strictly_correct(options: np.ndarray) -> np.ndarray:
    """Say in which items, of `(items, options)`, the first option scores highest; a tie is a miss."""
    return options[:, 0] > options[:, 1:].max(axis=1)


def score_choices(
    options: np.ndarray,
    blind: Mapping[str, np.ndarray],
    kinds: np.ndarray,
    clusters: np.ndarray,
    families: Mapping[str, Tree],
    chance: float,
) -> dict[str, Score]:
    """Score choices and blind baselines by kind and over families of kinds, with intervals.

    Args:
        options (`numpy.ndarray` of shape `(items, options)`): The right option's score first.
        blind (mapping of `str` to `numpy.ndarray` of the same shape): Scores of each baseline.
        kinds (`numpy.ndarray` of shape `(items,)`): Kind of each item.
        clusters (`numpy.ndarray` of shape `(items,)`): Items of the same cluster are resampled together.
        families (mapping of `str` to `Tree`): Averages to form.
        chance (`float`): Expected accuracy of a random guess.

    Returns:
        `dict[str, Score]`: a score under each name that `choice_accuracies` returns.
    """
    correct = strictly_correct(options)
    chosen = choice_accuracies(options, kinds, families)
    baselines = {name: choice_accuracies(scores, kinds, families) for name, scores in blind.items()}
    return {
        name: Score(
            value=chosen[name]["strict"],
            n=int(chosen[name]["n"]),
            interval=bootstrap_interval(
                correct[pool.items],
                groups=kinds[pool.items] if pool.shares else None,
                clusters=clusters[pool.items],
                shares=pool.shares,
            ),
            chance=chance,
            tie_rate=chosen[name]["tie_rate"],
            half_credit=chosen[name]["half_credit"],
            baselines={baseline: accuracies[name] for baseline, accuracies in baselines.items()},
        )
        for name, pool in _pools(kinds, families).items()
    }


def choice_accuracies(
    options: np.ndarray, kinds: np.ndarray, families: Mapping[str, Tree]
) -> dict[str, dict[str, float | int]]:
    """Score choices by kind and over families of kinds.

    Args:
        options (`numpy.ndarray` of shape `(items, options)`): The right option's score first.
        kinds (`numpy.ndarray` of shape `(items,)`): Kind of each item.
        families (mapping of `str` to `Tree`): Averages to form.

    Returns:
        `dict[str, dict]`: the result of `caption_choice` for each kind, `<family>_micro` (over items) and
        `<family>_macro` (the mean over the family's kinds, branch by branch).
    """
    by_kind = {str(kind): _choice(options[kinds == kind]) for kind in dict.fromkeys(kinds)}
    return {
        name: _mean_choice(by_kind, pool.shares) if pool.shares else by_kind.get(name) or _choice(options[pool.items])
        for name, pool in _pools(kinds, families).items()
    }


def kind_shares(tree: Tree, present: set[str] | None = None) -> dict[str, float]:
    """Compute the share of each kind in a macro average.

    Args:
        tree (`Tree`): Kinds, or branches of kinds; siblings count equally.
        present (`set[str]`, *optional*): Kinds that have items. Other kinds, and branches without any of these, are
            left out. Default: all.

    Returns:
        `dict[str, float]`: share of each kind. The shares add up to 1; the dictionary is empty if no kind is present.
    """
    if isinstance(tree, Mapping):
        branches = [shares for branch in tree.values() if (shares := kind_shares(branch, present))]
    else:
        branches = [{kind: 1.0} for kind in tree if present is None or kind in present]
    return {kind: share / len(branches) for branch in branches for kind, share in branch.items()}


class _Pool(NamedTuple):
    """Items averaged together: `items` is a boolean mask; `shares`, if given, is the share of each kind."""

    items: np.ndarray
    shares: dict[str, float] | None


def _pools(kinds: np.ndarray, families: Mapping[str, Tree]) -> dict[str, _Pool]:
    """Name every average: the kinds in the order of the items, then the families that have items."""
    pools = {str(kind): _Pool(kinds == kind, shares=None) for kind in dict.fromkeys(kinds)}
    present = set(pools)
    for family, tree in families.items():
        if shares := kind_shares(tree, present):
            items = np.isin(kinds, list(shares))
            pools[f"{family}_micro"] = _Pool(items, shares=None)
            pools[f"{family}_macro"] = _Pool(items, shares=shares)
    return pools


def _choice(options: np.ndarray) -> dict[str, float | int]:
    """Score the first option against the best of the others."""
    return caption_choice(options[:, 0], options[:, 1:].max(axis=1))


def _mean_choice(choices: Mapping[str, dict[str, float | int]], shares: Mapping[str, float]) -> dict[str, float | int]:
    """Average the rates of several kinds by their shares, and add up their items."""
    rates = ("strict", "half_credit", "tie_rate")
    weights = list(shares.values())
    means = {rate: float(np.average([choices[kind][rate] for kind in shares], weights=weights)) for rate in rates}
    return means | {"n": sum(choices[kind]["n"] for kind in shares)}
