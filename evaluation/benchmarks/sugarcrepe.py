"""SugarCrepe: fluent hard negatives of seven kinds, for COCO val2017."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from .choice import CaptionChoice, ChoiceItem, columns_of_seven, families_of_seven
from .coverage import FoundImages, find_images
from .records import check_sizes, read_records

SIZES = {
    "replace_obj": 1652,
    "replace_att": 788,
    "replace_rel": 1406,
    "swap_obj": 245,
    "swap_att": 666,
    "add_obj": 2062,
    "add_att": 692,
}
FIELDS = {"filename": str, "caption": str, "negative_caption": str}
WITHDRAWN = "108"  # an item of swap_obj that is wrong; it was removed upstream and is still in old copies

logger = logging.getLogger(__name__)


class SugarCrepe(CaptionChoice):
    """SugarCrepe, read from the official files.

    Schema: seven files, each a mapping of item id to `{"filename": "000000000001.jpg", "caption": "A dog sleeps on a
    red sofa.", "negative_caption": "A dog sleeps on a blue sofa."}`. Papers print the accuracy of each file, and
    Replace, Swap and Add as micro averages (SugarCrepe) or macro averages (CE-CLIP, DeGLA); both are computed. Choosing
    the shorter text solves nearly all of Add, so the mean in the table leaves Add out.

    Source: https://github.com/RAIVNLab/sugar-crepe, folder `data`; images of COCO val2017.
    Licence: MIT (items); captions from COCO, CC BY 4.0; images under their Flickr terms.

    Args:
        annotations (`str` or `Path`): Folder of the seven JSON files. If one has its official size, all must; if all
            are smaller, a note calls them a subset.
        images (`str` or `Path`): Folder of the images.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file of the complete set has an unexpected size, a file name leads outside the image folder, or
            too many images are missing.

    Reference:
        https://huggingface.co/papers/2306.14610
    """

    name = "sugarcrepe"
    suite = "SugarCrepe"
    families: ClassVar[dict[str, list[str]]] = families_of_seven(list(SIZES))
    columns: ClassVar[dict[str, str]] = columns_of_seven(list(SIZES)) | {"without_add_macro": "mean w/o add"}

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        listed = {kind: read_records(Path(annotations) / f"{kind}.json", FIELDS) for kind in SIZES}
        notes = _drop_withdrawn(listed["swap_obj"], annotations) + check_sizes(listed, SIZES, annotations)
        items, found = items_with_images(listed, ("caption", "negative_caption"), images, minimum_coverage)
        super().__init__(items, training_captions, found, notes)


def items_with_images(
    listed: Mapping[str, Mapping[str, dict[str, str]]],
    captions: Sequence[str],
    images: str | Path,
    minimum_coverage: float,
) -> tuple[list[ChoiceItem], FoundImages]:
    """Make the items of SugarCrepe or SugarCrepe++ whose image is found.

    Args:
        listed (mapping of kind to records by key): Each record names its image as `filename`.
        captions (sequence of `str`): Names of the fields of the captions, true ones first.
        images, minimum_coverage: As in `SugarCrepe`.

    Returns:
        `tuple[list[ChoiceItem], FoundImages]`: the items, and the search for their images.

    Raises:
        ValueError: As `find_images`.
    """
    records = [(kind, key, record) for kind, file in listed.items() for key, record in file.items()]
    found = find_images([(images, record["filename"]) for _, _, record in records], minimum_coverage)
    items = [
        ChoiceItem(key, kind, path, tuple(record[field] for field in captions), cluster=record["filename"])
        for (kind, key, record), path in zip(records, found.paths, strict=True)
        if path is not None
    ]
    return items, found


def _drop_withdrawn(swap_obj: dict[str, dict], folder: str | Path) -> list[str]:
    """Drop the item that was withdrawn upstream, if this is an old copy, and return a note."""
    if len(swap_obj) != SIZES["swap_obj"] + 1 or WITHDRAWN not in swap_obj:
        return []
    del swap_obj[WITHDRAWN]
    note = f"swap_obj has 246 items: an old copy; item {WITHDRAWN}, withdrawn upstream, is left out"
    logger.warning("%s: %s", folder, note)
    return [note]
