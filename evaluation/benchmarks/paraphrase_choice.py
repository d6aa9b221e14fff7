"""Two true captions that paraphrase each other and a false one, as several benchmarks ask for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..blind.text import word_overlap
from ..metrics import as_scores
from ..results import Score
from .choice import CaptionChoice, score_choices


def paraphrase_columns(kinds: Sequence[str]) -> dict[str, str]:
    """Title the columns of both tests, by kind and in the mean over kinds."""
    titles = {f"{test}_{kind}": f"{test.upper()} {kind.replace('_', ' ')}" for test in ("itt", "tot") for kind in kinds}
    return titles | {"itt_all_macro": "ITT mean", "tot_all_macro": "TOT mean"}


class ParaphraseChoice(CaptionChoice):
    """A choice between two true captions and a false one. Metrics, all strict, by kind and over families of kinds:

    - `itt_*` (image to text): both true captions score above the false one; chance is 1/3. `itt_first_*` and
      `itt_second_*` are the two comparisons one by one; chance is 1/2.
    - `tot_*` (text only): the two true captions are closer to each other than either is to the false one; chance is
      1/3. No image is used, so the blind baseline is the overlap of the captions' words.

    Args:
        As of `CaptionChoice`; the captions of an item are the two true ones, then the false one.

    Reference:
        SugarCrepe++, https://huggingface.co/papers/2406.11171.
    """

    compares_texts = True
    true_captions = 2

    def options(self, scores: np.ndarray) -> np.ndarray:
        """Compare the lower-scoring true caption with the false one."""
        return np.stack([scores[:, :2].min(axis=1), scores[:, 2]], axis=1)

    def score(  # type: ignore[override]  # `compares_texts` promises the second argument
        self, scores: np.ndarray, text_scores: np.ndarray
    ) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score both tests; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        text_scores = as_scores(text_scores)
        overlap = np.array([word_overlap(item.captions) for item in self.items])
        alone = {
            f"itt_{name}": self._alone(as_scores(scores)[:, :, 0], caption)
            for caption, name in enumerate(("first", "second"))
        }
        tot = score_choices(
            _paraphrase_options(text_scores),
            {"word overlap": _paraphrase_options(overlap)},
            self.kinds,
            self.clusters,
            self.families,
            chance=1 / 3,
        )
        tests = {"itt": metrics, **alone, "tot": tot}
        rows = [
            row | {"text_scores": pairs}
            for row, pairs in zip(rows, text_scores[:, (0, 0, 1), (1, 2, 2)].tolist(), strict=True)
        ]
        return {f"{test}_{name}": score for test, named in tests.items() for name, score in named.items()}, rows

    def _alone(self, scores: np.ndarray, caption: int) -> dict[str, Score]:
        """Score the choice between one true caption and the false one."""
        chosen = [caption, 2]
        blind = {name: blind_scores[:, chosen] for name, blind_scores in self.baseline_scores.items()}
        return score_choices(scores[:, chosen], blind, self.kinds, self.clusters, self.families, chance=1 / 2)


def _paraphrase_options(text_scores: np.ndarray) -> np.ndarray:
    """Return the similarity of the two true captions, then that of each to the false one: `(items, 3)`."""
    return np.stack([text_scores[:, 0, 1], text_scores[:, 0, 2], text_scores[:, 1, 2]], axis=1)
