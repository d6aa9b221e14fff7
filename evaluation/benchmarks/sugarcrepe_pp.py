"""SugarCrepe++: two true captions that paraphrase each other, and a false one, for COCO val2017."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..blind.text import word_overlap
from ..metrics import as_scores
from ..results import Score
from .choice import CaptionChoice, Tree, families_of_seven, score_choices
from .records import check_sizes, read_records
from .sugarcrepe import items_with_images

SIZES = {"replace_obj": 1652, "replace_att": 788, "replace_rel": 1406, "swap_obj": 245, "swap_att": 666}
FIELDS = {"filename": str, "caption": str, "caption2": str, "negative_caption": str}


class SugarCrepePP(CaptionChoice):
    """SugarCrepe++, read from the official files.

    Schema: five files, each a list of `{"id": 1, "filename": "000000000001.jpg", "caption": "A red bus passes a shop.",
    "caption2": "A shop is passed by a bus that is red.", "negative_caption": "A blue bus passes a shop."}`. Metrics,
    all strict, by file and over files:

    - `itt_*` (image to text): both true captions score above the false one; chance is 1/3. `itt_first_*` and
      `itt_second_*` are the two comparisons one by one; chance is 1/2.
    - `tot_*` (text only): the two true captions are closer to each other than either is to the false one; chance is
      1/3. No image is used, so the blind baseline is the overlap of the captions' words.

    Source: https://github.com/Sri-Harsha/scpp, folder `data`, or `Aman-J/SugarCrepe_pp` on the Hub; images of COCO
    val2017. Licence: CC BY 4.0 (items, by their dataset card; captions from COCO); images under their Flickr terms.

    Args:
        annotations (`str` or `Path`): Folder of the five JSON files. If one has its official size, all must; if all are
            smaller, a note calls them a subset.
        images (`str` or `Path`): Folder of the images.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file of the complete set has an unexpected size, a file name leads outside the image folder, or
            too many images are missing.

    Reference:
        https://huggingface.co/papers/2406.11171
    """

    name = "sugarcrepe_pp"
    suite = "SugarCrepe++"
    compares_texts = True
    families: ClassVar[dict[str, Tree]] = {
        family: kinds
        for family, kinds in families_of_seven(list(SIZES)).items()
        if family in ("replace", "swap", "all")
    }
    columns: ClassVar[dict[str, str]] = {
        f"{test}_{kind}": f"{test.upper()} {kind.replace('_', ' ')}" for test in ("itt", "tot") for kind in SIZES
    } | {"itt_all_macro": "ITT mean", "tot_all_macro": "TOT mean"}

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        listed = {kind: read_records(Path(annotations) / f"{kind}.json", FIELDS) for kind in SIZES}
        notes = check_sizes(listed, SIZES, annotations)
        captions = ("caption", "caption2", "negative_caption")
        items, found = items_with_images(listed, captions, images, minimum_coverage)
        super().__init__(items, training_captions, found, notes)

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
