"""ARO's order tasks: a caption against four shuffles of its own words."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..metrics import bootstrap_interval
from ..results import Score
from .choice import CaptionChoice, ChoiceItem, Tree
from .coverage import find_images
from .records import check_sizes, read_records

FIELDS = {"image": str, "caption_options": list}
OPTIONS = 5  # the caption and four shuffles
KIND = "order"


class AroOrder(CaptionChoice):
    """The common part of ARO's COCO-Order and Flickr-Order: frozen negatives, read from a file.

    The released code draws new shuffles at every start, and its authors did not publish theirs. Scores compare only
    on the same file, and the notes record its hash and its source.

    Schema: a JSON list (or JSON lines) of `{"image": "val2014/COCO_val2014_000000000001.jpg", "caption_options": ["a
    tall man reads a book", "a book man reads a tall", "man a tall reads book a", "tall a man a reads book", "reads a
    book a tall man"]}`, the true caption first. Metrics: `order`, where a tie is a miss, and `order_lenient`, the rule
    of the released code, where a tie of the true caption with the best shuffle is correct, even if that shuffle equals
    the caption.

    Args:
        negatives (`str` or `Path`): The file. If it has fewer items than the official number, a note calls it a subset.
        images (`str` or `Path`): Folder that the names of the images are relative to.
        source (`str`, *optional*): Source of the file, such as a dataset id and its revision.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If there are more items than the official number, an item does not have five captions, a file name
            leads outside the image folder, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2210.01936
    """

    suite = "ARO"
    families: ClassVar[dict[str, Tree]] = {}
    size: ClassVar[int]

    def __init__(
        self,
        negatives: str | Path,
        images: str | Path,
        source: str | None = None,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        records = read_records(negatives, FIELDS)
        for key, record in records.items():
            captions = record["caption_options"]
            if len(captions) != OPTIONS or not all(isinstance(caption, str) for caption in captions):
                raise ValueError(f"{negatives}, item {key!r}: caption_options {captions}; needs {OPTIONS} texts")
        notes = check_sizes({self.name: records}, {self.name: self.size}, negatives)
        digest = hashlib.sha256(Path(negatives).read_bytes()).hexdigest()[:16]
        notes.append(f"frozen shuffles: {source or 'source not given'}, sha256 {digest}")
        found = find_images([(images, record["image"]) for record in records.values()], minimum_coverage)
        items = [
            ChoiceItem(key, KIND, image, tuple(record["caption_options"]), cluster=record["image"])
            for (key, record), image in zip(records.items(), found.paths, strict=True)
            if image is not None
        ]
        if same := sum(item.captions[0] in item.captions[1:] for item in items):
            notes.append(f"{same} items are always a tie: a shuffle equals the caption")
        super().__init__(items, training_captions, found, notes)

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices, by our rule and by that of the released code; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        lenient = np.array([row["scores"][0] >= max(row["scores"]) for row in rows])
        metrics[f"{KIND}_lenient"] = Score(
            value=float(lenient.mean()),
            n=len(lenient),
            interval=bootstrap_interval(lenient, clusters=self.clusters),
            chance=1 / OPTIONS,
        )
        return metrics, rows


class AroCocoOrder(AroOrder):
    """ARO COCO-Order: the 25,010 captions of 5,000 images of the Karpathy test split; see `AroOrder`.

    Source: https://github.com/mertyg/vision-language-models-are-bows generates such items; `mteb/ARO-COCO-order` on the
    Hub is a frozen copy. Licence: MIT (code); captions of COCO, CC BY 4.0; images under their Flickr terms.
    """

    name = "aro_coco_order"
    columns: ClassVar[dict[str, str]] = {KIND: "COCO-Order"}
    size = 25_010


class AroFlickrOrder(AroOrder):
    """ARO Flickr-Order: the 5,000 captions of 1,000 images of Flickr30k's test split; see `AroOrder`.

    Source: as for `AroCocoOrder`; the frozen copy is `mteb/ARO-Flickr-Order`. Licence: MIT (code); captions and images
    of Flickr30k for research only, images on request from the University of Illinois.
    """

    name = "aro_flickr_order"
    columns: ClassVar[dict[str, str]] = {KIND: "Flickr-Order"}
    size = 5_000
