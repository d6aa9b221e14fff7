"""VALSE: captions and foils in eleven files, on photographs of several datasets."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from .choice import CaptionChoice, ChoiceItem, Tree
from .coverage import find_images
from .records import check_sizes, read_records

# Only items whose caption at least two of three annotators validated count. The names are those of the files; the
# official configuration misspells several of them.
SIZES = {
    "existence": 505,
    "plurals": 851,
    "counting-hard": 868,
    "counting-small-quant": 900,
    "counting-adversarial": 691,
    "relations": 535,
    "action-replacement": 648,
    "actant-swap": 949,
    "coreference-standard": 708,
    "coreference-hard": 104,
    "foil-it": 943,
}
FIELDS = {"dataset": str, "image_file": str, "caption": str, "foil": str, "mturk": dict}
VALIDATED = 2  # annotators, of three

# Two labels (coco2017 and coco_2017) are the same source, and one label (VisDial_v1.0) is three: file names decide.
SOURCES = {
    "v7w_": "visual7w",
    "COCO_train2014_": "coco_train2014",
    "COCO_val2014_": "coco_val2014",
    "VisualDialog_val2018_": "visdial_val2018",
}
SOURCES_OF_LABELS = {"coco2017": "coco_val2017", "coco_2017": "coco_val2017", "SWiG": "swig"}


class Valse(CaptionChoice):
    """VALSE, read from the official files.

    Schema: eleven files, each a mapping of item id to `{"dataset": "visual7w", "image_file": "v7w_1.jpg", "caption":
    "There are no people in the picture.", "foil": "There are people in the picture.", "mturk": {"caption": 3, "foil":
    0, "other": 0}}`. Only items with `mturk.caption >= 2` count. The headline is `all_macro`, the mean over the eleven
    files. Tables in papers show nine columns, with the three counting files as one.

    There are two blind baselines: the shorter text, and the caption whose numbers have the larger sum, which is right
    on every item of counting-adversarial.

    Source: https://github.com/Heidelberg-NLP/VALSE, folder `data`. Licence: MIT (items); images under the terms of
    Visual7W, COCO, SWiG and VisDial.

    Args:
        annotations (`str` or `Path`): Folder of the JSON files. If one has its official number of counted items, all
            must; if all have fewer, a note calls them a subset.
        images (`str` or `Path`): Folder with one folder, or link to a folder, per source of images: `visual7w`,
            `coco_val2017`, `coco_train2014`, `coco_val2014`, `swig`, `visdial_val2018`.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file of the complete set has an unexpected size, the source of an item is unknown, a file name
            leads outside its folder, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2112.07566
    """

    name = "valse"
    suite = "VALSE"
    families: ClassVar[dict[str, Tree]] = {
        "counting": [piece for piece in SIZES if piece.startswith("counting")],
        "coreference": [piece for piece in SIZES if piece.startswith("coreference")],
        "all": list(SIZES),
    }
    columns: ClassVar[dict[str, str]] = {piece: piece.replace("-", " ") for piece in SIZES} | {"all_macro": "mean"}

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        paths = {piece: Path(annotations) / f"{piece}.json" for piece in SIZES}
        read = {piece: read_records(path, FIELDS) if path.is_file() else {} for piece, path in paths.items()}
        listed = {piece: _validated(records) for piece, records in read.items()}
        notes = check_sizes(listed, SIZES, annotations)
        if dropped := sum(map(len, read.values())) - sum(map(len, listed.values())):
            notes.append(f"{dropped} items that fewer than {VALIDATED} of 3 annotators validated do not count")
        records = [(piece, key, record) for piece, file in listed.items() for key, record in file.items()]
        places = [(Path(images) / _source(piece, key, record), record["image_file"]) for piece, key, record in records]
        found = find_images(places, minimum_coverage)
        items = [
            ChoiceItem(key, piece, path, (record["caption"], record["foil"]), cluster=record["image_file"])
            for (piece, key, record), path in zip(records, found.paths, strict=True)
            if path is not None
        ]
        super().__init__(items, training_captions, found, notes)

    def blind_scores(self, training_captions: Sequence[str] | None) -> dict[str, np.ndarray]:
        """Add the baseline of larger numbers; see `CaptionChoice.blind_scores`."""
        numbers = [[sum_of_numbers(caption) for caption in item.captions] for item in self.items]
        return super().blind_scores(training_captions) | {"larger number": np.array(numbers, dtype=np.float64)}


def sum_of_numbers(text: str) -> int:
    """Add up the numbers that a text writes in digits; 0 without numbers."""
    return sum(map(int, re.findall(r"\d+", text)))


def _validated(records: dict[str, dict]) -> dict[str, dict]:
    """Keep the items whose caption enough annotators validated."""
    return {key: record for key, record in records.items() if record["mturk"].get("caption", 0) >= VALIDATED}


def _source(piece: str, key: str, record: dict) -> str:
    """Return the folder of an item's image."""
    for prefix, source in SOURCES.items():
        if record["image_file"].startswith(prefix):
            return source
    if record["dataset"] not in SOURCES_OF_LABELS:
        raise ValueError(
            f"{piece}.json, item {key!r}: dataset {record['dataset']!r} with image {record['image_file']!r}; known are "
            f"{', '.join(SOURCES_OF_LABELS)} and files that begin with {', '.join(SOURCES)}"
        )
    return SOURCES_OF_LABELS[record["dataset"]]
