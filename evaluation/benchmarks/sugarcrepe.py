"""SugarCrepe: fluent hard negatives of seven kinds, for COCO val2017."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ...data.images import resolve_inside
from .choice import CaptionChoice, ChoiceItem, columns_of_seven, families_of_seven

SIZES = {
    "replace_obj": 1652,
    "replace_att": 788,
    "replace_rel": 1406,
    "swap_obj": 245,
    "swap_att": 666,
    "add_obj": 2062,
    "add_att": 692,
}
FIELDS = ("filename", "caption", "negative_caption")
WITHDRAWN = "108"  # of swap_obj: wrong, removed upstream, still in old copies

logger = logging.getLogger(__name__)


class SugarCrepe(CaptionChoice):
    """SugarCrepe, read from the official files.

    Schema: seven files, each a mapping of item id to `{"filename": "000000000001.jpg", "caption": "A dog sleeps on a
    red sofa.", "negative_caption": "A dog sleeps on a blue sofa."}`. Papers print the accuracy of each file, and
    Replace, Swap and Add as micro (SugarCrepe) or macro averages (CE-CLIP, DeGLA): here are both. Nearly all of Add is
    solved by choosing the shorter text, so the mean in the table leaves it out.

    Source: https://github.com/RAIVNLab/sugar-crepe, folder `data`; images of COCO val2017.
    Licence: MIT (items); captions from COCO, CC BY 4.0; images under their Flickr terms.

    Args:
        annotations (`str` or `Path`): Folder of the seven JSON files. Where any file has its official size all must; a
            folder where none has is taken for a subset, and a note says so.
        images (`str` or `Path`): Folder of the images.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, optional): Captions that the blind language models are fitted on.

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
        listed = {kind: _read(Path(annotations) / f"{kind}.json") for kind in SIZES}
        notes = _check_sizes(listed, annotations)
        n_listed = sum(map(len, listed.values()))
        names = sorted({record["filename"] for records in listed.values() for record in records.values()})
        paths = {name: resolve_inside(images, name) for name in names}
        self.missing_images = [name for name, path in paths.items() if not path.is_file()]
        missing = set(self.missing_images)
        items = [
            ChoiceItem(
                key=key,
                kind=kind,
                image=paths[record["filename"]],
                captions=(record["caption"], record["negative_caption"]),
                cluster=record["filename"],
            )
            for kind, records in listed.items()
            for key, record in records.items()
            if record["filename"] not in missing
        ]
        if missing:
            lost = (
                f"{n_listed - len(items)} of {n_listed} items left out: {len(missing)} of {len(paths)} images are "
                f"missing, such as {', '.join(self.missing_images[:5])}"
            )
            if len(items) < minimum_coverage * n_listed:
                raise ValueError(f"{images}: {lost}; minimum_coverage is {minimum_coverage}")
            notes.append(lost)
        super().__init__(items, training_captions, n_listed, notes)


def _read(path: Path) -> dict[str, dict[str, str]]:
    """Read one file and check that every item has the three fields."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    for key, record in records.items():
        if not set(FIELDS) <= set(record):
            raise ValueError(f"{path}, item {key!r}: fields {sorted(record)}; needs {', '.join(FIELDS)}")
    return records


def _check_sizes(listed: dict[str, dict], folder: str | Path) -> list[str]:
    """Compare the numbers of items with the official ones; drop the withdrawn item; return what is to be noted."""
    notes = []
    if len(listed["swap_obj"]) == SIZES["swap_obj"] + 1 and WITHDRAWN in listed["swap_obj"]:
        del listed["swap_obj"][WITHDRAWN]
        notes.append(f"swap_obj has 246 items: an old copy; item {WITHDRAWN}, withdrawn upstream, is left out")
        logger.warning("%s: %s", folder, notes[0])
    sizes = {kind: len(records) for kind, records in listed.items()}
    unexpected = {kind: size for kind, size in sizes.items() if size != SIZES[kind]}
    if 0 < len(unexpected) < len(SIZES):
        expected = {kind: SIZES[kind] for kind in unexpected}
        raise ValueError(f"{folder}: {unexpected} items where the complete set has {expected}")
    if unexpected:
        notes.append(f"a subset: {sum(sizes.values())} of {sum(SIZES.values())} items of the complete set")
    return notes
