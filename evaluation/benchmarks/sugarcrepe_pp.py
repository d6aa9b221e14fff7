"""SugarCrepe++: two true captions that paraphrase each other, and a false one, for COCO val2017."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .choice import Tree, families_of_seven
from .paraphrase_choice import ParaphraseChoice, paraphrase_columns
from .records import check_sizes, read_records
from .sugarcrepe import items_with_images

SIZES = {"replace_obj": 1652, "replace_att": 788, "replace_rel": 1406, "swap_obj": 245, "swap_att": 666}
FIELDS = {"filename": str, "caption": str, "caption2": str, "negative_caption": str}


class SugarCrepePP(ParaphraseChoice):
    """SugarCrepe++, read from the official files.

    Schema: five files, each a list of `{"id": 1, "filename": "000000000001.jpg", "caption": "A red bus passes a shop.",
    "caption2": "A shop is passed by a bus that is red.", "negative_caption": "A blue bus passes a shop."}`.
    Metrics: as `ParaphraseChoice`, by file and over files.

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
    families: ClassVar[dict[str, Tree]] = {
        family: kinds
        for family, kinds in families_of_seven(list(SIZES)).items()
        if family in ("replace", "swap", "all")
    }
    columns: ClassVar[dict[str, str]] = paraphrase_columns(list(SIZES))

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
