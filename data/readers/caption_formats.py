"""Formats of captions: the columns of each, and how a record becomes a row."""

import ast
import json
import reprlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from .bad_rows import RowProblem
from .hygiene import check_id, storable
from .sources import Source, find_column, listed

COCO_2014_PATTERN = "train2014/COCO_train2014_{image_id:012d}.jpg"

CECLIP_NEGATIVES = ("relation_aug_caption", "adj_aug_caption", "noun_aug_caption", "verb_aug_caption")
# The columns that a layout must have. Those of a table are chosen by name.
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
    """One image with one caption and its negatives. `check_row` ensures these types.

    Args:
        image (`str`, *optional*): A file name. None if the source stores the picture itself.
        caption (`str`): The true caption.
        negatives (`list[str]`): Its negative captions.
        mask (`list[int]`, *optional*): One number per negative, 0 if it cannot be used. None if slots have no type, so
            that an unusable negative can be dropped.
        image_id (`str`, *optional*): Id of the image.
        row_id (`int` or `str`, *optional*): Id of the row, which must be unique.
        neighbors (`list[int]`, *optional*): Indices of the records with a similar image, from 0.
        notes (`list[str]`): Findings to count in the report.
    """

    image: str | None
    caption: str
    negatives: list[str]
    mask: list[int] | None = None
    image_id: str | None = None
    row_id: int | str | None = None
    neighbors: list[int] | None = None
    notes: list[str] | tuple[()] = ()


class Layout(NamedTuple):
    """How the records of a source become rows.

    Args:
        read (`Callable[[dict], CaptionRow]`): Turns a record into a row whose types are unchecked, or raises a
            `RowProblem`.
        image_column (`str`, *optional*): The column that stores or names the images. None if they are only numbered.
    """

    read: Callable[[Record], CaptionRow]
    image_column: str | None


def choose_layout(
    source: Source,
    format: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    image_pattern: str = COCO_2014_PATTERN,
) -> Layout:
    """Recognise the layout of a source by its columns, or check the requested format.

    Args:
        source (`Source`): The source.
        format (`str`, *optional*): One of `FORMATS`. By default the format is recognised.
        image_column, caption_column (`str`, *optional*): Columns of a table with unusual names.
        image_pattern (`str`): Path of an image for layouts that only number it.

    Returns:
        `Layout`: How to read a record.

    Raises:
        ValueError: If `format` is unknown, or a container that the source is not; if a column is missing. The message
            lists the columns found, the missing one and the nearest.
    """
    name = _layout_name(source, format)
    if name == "table":
        image_column = find_column(source, (image_column,) if image_column else IMAGE_COLUMNS)
        caption_column = find_column(source, (caption_column,) if caption_column else CAPTION_COLUMNS)
        read = partial(_table_row, image_column=image_column, caption_column=caption_column)
        return Layout(read, image_column)
    if image_column or caption_column:
        raise ValueError(
            f"{source.name}: the layout {name!r} has its own columns; name columns only with format='table'"
        )
    for column in LAYOUTS[name]:
        find_column(source, (column,))
    if name == "coco":
        return Layout(_coco_row, "file_name")
    if name == "negclip":
        return Layout(_negclip_row, "filepath")
    image_column = "image" if "image" in source.columns else None
    map_record = _degla_row if name == "degla" else _ceclip_row
    return Layout(partial(map_record, image_column=image_column, image_pattern=image_pattern), image_column)


def _layout_name(source: Source, format: str | None) -> str:
    """Return "table" or a key of `LAYOUTS`."""
    if format is not None and format not in FORMATS:
        raise ValueError(f"format={format!r} is not one of {', '.join(FORMATS)}")
    if format in CONTAINERS and format != source.container:
        raise ValueError(f"{source.name} is not of format {format!r}; its columns are {listed(source.columns)}")
    if format is not None and format not in CONTAINERS:
        return format
    if source.container == "coco":
        return "coco"
    if {"original", "enhanced"} <= source.columns:
        return "degla"
    if {"filepath", "title"} <= source.columns:
        return "negclip"
    return "ceclip" if "relation_aug_caption" in source.columns else "table"


def _cell(record: Record, column: str, default: Any = None) -> Any:
    """Return a value of any type; `check_row` looks at it."""
    return record.get(column, default)


def _table_row(record: Record, image_column: str, caption_column: str) -> CaptionRow:
    """Map the columns that `load_captions` itself returns. Lists in a CSV are written as JSON."""
    return CaptionRow(
        image=_cell(record, image_column),
        caption=_cell(record, caption_column),
        negatives=_cell(record, "negative_captions"),
        mask=_cell(record, "negative_mask"),
        image_id=_cell(record, "image_id"),
        neighbors=_cell(record, "neighbors"),
    )


def _coco_row(record: Record) -> CaptionRow:
    """Map an annotation of COCO's captions, to which `read_source` has added its image's file name."""
    if _cell(record, "file_name") is None:
        raise RowProblem("unknown image id", reprlib.repr(_cell(record, "image_id")))
    return CaptionRow(record["file_name"], _cell(record, "caption"), [], None, record["image_id"], _cell(record, "id"))


def _degla_row(record: Record, image_column: str | None, image_pattern: str) -> CaptionRow:
    """Map DeGLA's columns. Its negatives declare no order of types."""
    image = _numbered_image(record, image_column, image_pattern)
    return CaptionRow(image, _cell(record, "original"), _cell(record, "enhanced"), image_id=_cell(record, "image_id"))


def _negclip_row(record: Record) -> CaptionRow:
    """Map NegCLIP's columns, whose lists are Python literals."""
    return CaptionRow(
        _cell(record, "filepath"),
        _cell(record, "title"),
        _cell(record, "neg_caption"),
        neighbors=_cell(record, "neg_image"),
    )


def _ceclip_row(record: Record, image_column: str | None, image_pattern: str) -> CaptionRow:
    """Map CE-CLIP's four typed negatives. The first entry of `valid_caption` is for the caption itself."""
    valid = _integers(_cell(record, "valid_caption", [1, 1, 1, 1, 1]), "valid_caption")
    return CaptionRow(
        image=_numbered_image(record, image_column, image_pattern),
        caption=_cell(record, "caption"),
        negatives=[_cell(record, column) for column in CECLIP_NEGATIVES],
        mask=valid[1:],
        image_id=_cell(record, "image_id"),
        row_id=_cell(record, "id"),
    )


def _numbered_image(record: Record, image_column: str | None, image_pattern: str) -> str | None:
    """Return the name of an image from its column, or make it from its number."""
    if image_column is not None:
        return _cell(record, image_column)
    try:
        return image_pattern.format(image_id=_cell(record, "image_id"))
    except (ValueError, TypeError, LookupError) as error:
        met = f"{reprlib.repr(_cell(record, 'image_id'))} in {image_pattern}"
        raise RowProblem("image_id does not fit the image pattern", met) from error


def check_row(row: CaptionRow) -> CaptionRow:
    """Check the types of a row, and parse lists that a CSV or TSV cell holds as text.

    Args:
        row (`CaptionRow`): A row with values of any type.

    Returns:
        `CaptionRow`: The row with values of the declared types. A missing list of negatives becomes empty.

    Raises:
        RowProblem: If the caption is empty, a value has the wrong type, or mask and negatives differ in length.
    """
    image, caption, negatives, mask, image_id, row_id, neighbors, _ = row
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
        raise RowProblem(f"{column} is not a list of whole numbers", reprlib.repr(value))
    return [int(number) for number in numbers]


def _as_list(value: Any, column: str) -> list[Any]:
    """Return a list, or parse one from a text cell. None and an empty cell stand for an empty list."""
    if value is None or value == "":
        return []
    found = _parsed(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise RowProblem(f"{column} is not a list", reprlib.repr(value))
    return found


def _parsed(cell: str) -> Any:
    """Parse JSON or a Python literal without evaluating anything. Return None if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return parse(cell)
    return None
