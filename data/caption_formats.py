"""The layouts captions come in: which columns each has, and how one of its records becomes a row."""

import ast
import json
import reprlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from .bad_rows import RowProblem
from .row_reading import check_id, storable
from .sources import Source, find_column, listed

COCO_2014_PATTERN = "train2014/COCO_train2014_{image_id:012d}.jpg"

CECLIP_NEGATIVES = ("relation_aug_caption", "adj_aug_caption", "noun_aug_caption", "verb_aug_caption")
# The columns a layout must have; those of a table are chosen by name.
LAYOUTS = {
    "coco": ("file_name", "image_id", "caption"),
    "degla": ("image_id", "original", "enhanced"),
    "negclip": ("filepath", "title"),
    "ceclip": ("image_id", "caption", *CECLIP_NEGATIVES),
}
OPTIONAL_COLUMNS = {
    "negclip": ("neg_caption", "neg_image"),
    "ceclip": ("id", "valid_caption"),
    "table": ("image_id", "negative_captions", "negative_mask", "neighbors"),
}
IMAGE_COLUMNS, CAPTION_COLUMNS = ("image", "file_name"), ("caption", "text")
USED_COLUMNS = {*IMAGE_COLUMNS, *CAPTION_COLUMNS}.union(*LAYOUTS.values(), *OPTIONAL_COLUMNS.values())

CONTAINERS = ("coco", "imagefolder", "dataset")
FORMATS = (*LAYOUTS, "table", "imagefolder", "dataset")

Record = dict[str, Any]


class CaptionRow(NamedTuple):
    """One image with one caption and its negatives; `check_row` has seen to the types below."""

    image: str | None  # a file name; None where the source holds the picture itself
    caption: str
    negatives: list[str]
    mask: list[int] | None = None  # None: a slot has no meaning of its own, so a bad negative can be dropped
    image_id: str | None = None
    row_id: int | str | None = None  # must not occur twice
    neighbors: list[int] | None = None  # records with a similar image, counted from 0


def choose_layout(source: Source, format: str | None = None) -> str:
    """Recognise a source's layout by its columns, or check the format that was asked for.

    Args:
        source (`Source`): What was read.
        format (`str`, *optional*): One of `FORMATS`; None to recognise it.

    Returns:
        "table" or a key of `LAYOUTS`.

    Raises:
        ValueError: If `format` is unknown, or names a container that the source is not.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"format={format!r} is not one of {', '.join(FORMATS)}.")
    if format in CONTAINERS and format != source.container:
        raise ValueError(f"{source.name} is not of format {format!r}; its columns are {listed(source.columns)}.")
    if format is not None and format not in CONTAINERS:
        return format
    if source.container == "coco":
        return "coco"
    if {"original", "enhanced"} <= source.columns:
        return "degla"
    if {"filepath", "title"} <= source.columns:
        return "negclip"
    return "ceclip" if "relation_aug_caption" in source.columns else "table"


def row_reader(
    source: Source, layout: str, image_column: str | None, caption_column: str | None, image_pattern: str
) -> tuple[Callable[[Record], CaptionRow], str | None]:
    """Choose the function that turns a record into a row, once the columns it needs are seen to be there.

    Args:
        source (`Source`): What was read.
        layout (`str`): "table" or a key of `LAYOUTS`.
        image_column, caption_column (`str`, *optional*): A table's columns, where they have other names than usual.
        image_pattern (`str`): Path of an image for the layouts that give only its number.

    Returns:
        The function, which raises `RowProblem` for a bad record, and the column that holds or names the images, if any.

    Raises:
        ValueError: If a column is missing; the message has the columns found, the one wanted and the nearest.
    """
    if layout == "table":
        image_column = find_column(source, (image_column,) if image_column else IMAGE_COLUMNS)
        caption_column = find_column(source, (caption_column,) if caption_column else CAPTION_COLUMNS)
        return partial(_table_row, image_column=image_column, caption_column=caption_column), image_column
    if image_column or caption_column:
        raise ValueError(
            f"{source.name}: the layout {layout!r} has its own columns; name them only with format='table'."
        )
    for column in LAYOUTS[layout]:
        find_column(source, (column,))
    if layout == "coco":
        return _coco_row, "file_name"
    if layout == "negclip":
        return _negclip_row, "filepath"
    image_column = "image" if "image" in source.columns else None
    read = _degla_row if layout == "degla" else _ceclip_row
    return partial(read, image_column=image_column, image_pattern=image_pattern), image_column


def _table_row(record: Record, image_column: str, caption_column: str) -> CaptionRow:
    """Map the columns that `load_captions` itself returns; in a CSV, lists are written as JSON."""
    return CaptionRow(
        image=record.get(image_column),
        caption=record.get(caption_column),
        negatives=record.get("negative_captions"),
        mask=record.get("negative_mask"),
        image_id=record.get("image_id"),
        neighbors=record.get("neighbors"),
    )


def _coco_row(record: Record) -> CaptionRow:
    """Map an annotation of COCO's captions, which `read_source` has given its image's file name."""
    if record.get("file_name") is None:
        raise RowProblem("unknown image id", reprlib.repr(record.get("image_id")))
    return CaptionRow(record["file_name"], record.get("caption"), [], None, record["image_id"], record.get("id"))


def _degla_row(record: Record, image_column: str | None, image_pattern: str) -> CaptionRow:
    """Map DeGLA's columns; its rewrites come in no declared order of types."""
    image = _numbered_image(record, image_column, image_pattern)
    return CaptionRow(image, record.get("original"), record.get("enhanced"), image_id=record.get("image_id"))


def _negclip_row(record: Record) -> CaptionRow:
    """Map NegCLIP's columns, whose lists are Python literals."""
    return CaptionRow(
        record.get("filepath"), record.get("title"), record.get("neg_caption"), neighbors=record.get("neg_image")
    )


def _ceclip_row(record: Record, image_column: str | None, image_pattern: str) -> CaptionRow:
    """Map CE-CLIP's four typed negatives; `valid_caption` has a first entry for the caption itself."""
    valid = _integers(record.get("valid_caption", [1, 1, 1, 1, 1]), "valid_caption")
    return CaptionRow(
        image=_numbered_image(record, image_column, image_pattern),
        caption=record.get("caption"),
        negatives=[record.get(column) for column in CECLIP_NEGATIVES],
        mask=valid[1:],
        image_id=record.get("image_id"),
        row_id=record.get("id"),
    )


def _numbered_image(record: Record, image_column: str | None, image_pattern: str) -> str | None:
    """Name the image by its column where there is one, else by its number."""
    if image_column is not None:
        return record.get(image_column)
    try:
        return image_pattern.format(image_id=record.get("image_id"))
    except (ValueError, TypeError, LookupError) as error:
        met = f"{reprlib.repr(record.get('image_id'))} in {image_pattern}"
        raise RowProblem("image_id does not fit the image pattern", met) from error


def check_row(row: CaptionRow) -> CaptionRow:
    """Check the types of a row as read, and parse the lists that a CSV or TSV cell can only hold as text.

    Args:
        row (`CaptionRow`): With values of any type.

    Returns:
        `CaptionRow` with values of its declared types; a missing list of negatives is empty.

    Raises:
        RowProblem: If the caption is empty, a value has the wrong type, or mask and negatives differ in length.
    """
    image, caption, negatives, mask, image_id, row_id, neighbors = row
    if image is not None and not isinstance(image, str):
        raise RowProblem("image is not a file name", reprlib.repr(image))
    if not isinstance(caption, str):
        raise RowProblem("caption is not text", reprlib.repr(caption))
    if not caption.strip():
        raise RowProblem("empty caption")
    negatives = _texts(negatives)
    mask = None if mask in (None, "") else _integers(mask, "negative_mask")
    if mask is not None and len(mask) != len(negatives):
        raise RowProblem("mask and negatives differ in length", f"{len(mask)} and {len(negatives)}")
    image_id = image if image_id is None else storable(str(image_id))
    check_id(row_id)
    neighbors = None if neighbors is None else _integers(neighbors, "neighbors")
    return CaptionRow(image, storable(caption), negatives, mask, image_id, row_id, neighbors)


def _texts(value: Any) -> list[str]:
    """Check a list of negatives, in which None stands for an empty one."""
    texts = ["" if text is None else text for text in _as_list(value, "negatives")]
    if not all(isinstance(text, str) for text in texts):
        raise RowProblem("negatives are not all text", reprlib.repr(value))
    return [storable(text) for text in texts]


def _integers(value: Any, column: str) -> list[int]:
    """Check a list of whole numbers."""
    numbers = _as_list(value, column)
    if not all(isinstance(number, int) for number in numbers):
        raise RowProblem(f"{column} holds something else than whole numbers", reprlib.repr(value))
    return [int(number) for number in numbers]


def _as_list(value: Any, column: str) -> list[Any]:
    """Return a list, or parse one written in a text cell; None and an empty cell stand for an empty list."""
    if value is None or value == "":
        return []
    found = _parsed(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise RowProblem(f"{column} is not a list", reprlib.repr(value))
    return found


def _parsed(cell: str) -> Any:
    """Parse JSON or a Python literal, or return None; nothing is evaluated."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return parse(cell)
    return None
