"""Captions with their images and negatives, read from the formats people have into one data set."""

import reprlib
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .bad_rows import BadRow, RowProblem, RowReport, check_on_bad_row
from .caption_formats import COCO_2014_PATTERN, USED_COLUMNS, CaptionRow, Record, check_row, choose_layout, row_reader
from .caption_hygiene import clean_negatives
from .row_images import check_stored, find_files, image_folder, stored_pictures
from .row_reading import Wanted, image_names, read_rows
from .sources import Source, is_list, read_source

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BLANK_ROW = CaptionRow(image=None, caption="", negatives=[], mask=[], image_id="")


def load_captions(
    path: "str | Path | Dataset | DatasetDict",
    images: str | Path | None = None,
    split: str | None = None,
    only: str | Path | Collection[str] | None = None,
    on_bad_row: str = "skip",
    num_negatives: int | None = None,
    *,
    format: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    image_pattern: str = COCO_2014_PATTERN,
    report: RowReport | None = None,
) -> "Dataset":
    """Load image-caption pairs with their negative captions, leaving out what cannot be used and saying so.

    Formats, recognised by their structure:

    - "coco": COCO captions, a JSON object of `images` and `annotations`;
    - "degla": records of `image_id, original, enhanced`;
    - "negclip": a TSV of `filepath, title[, neg_caption, neg_image]`;
    - "ceclip": records of `image_id, caption, relation_aug_caption, adj_aug_caption, noun_aug_caption,
      verb_aug_caption[, valid_caption]`, which give four negatives in this order;
    - "table": records of `image` or `file_name`, `caption` or `text`[, `negative_captions`, `negative_mask`,
      `image_id`]; a CSV cell holds a list as JSON;
    - "imagefolder": a folder with such a table in metadata.csv, .jsonl or .parquet;
    - "dataset": a `Dataset`, a folder written by `save_to_disk`, or a name on the Hub.

    Records come as a JSON list, JSON lines, CSV, TSV or parquet. A `.npy` of pickles is refused.

    A negative is dropped if it is empty or equals its caption or an earlier negative, apart from case, spaces and final
    punctuation. Where slots have a type ("ceclip", or with a `negative_mask`) it keeps its place and is masked. Each
    kind is counted.

    Args:
        path (path, `Dataset` or `DatasetDict`): What to load.
        images (`str` or `Path`, *optional*): Folder that image names start from and must not leave; by default the
            folder of the file.
        split (`str`, *optional*): Split of a data set, or subfolder of an image folder.
        only (path or collection of `str`, *optional*): The images to keep, by file name or id; a text file has one a
            line.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them, and names the first ten in a warning; "raise" stops
            at the first. Bad are a missing, unreadable or outlying image, an empty caption, a value of the wrong type,
            and a duplicate row id ("coco", "ceclip").
        num_negatives (`int`, *optional*): Slots of every row, >= 0: further ones are cut, missing ones filled with ""
            and mask 0, and counted. By default rows keep as many as they have.
        format (`str`, *optional*): The format by name, where it is not to be recognised.
        image_column, caption_column (`str`, *optional*): Columns of a table, where they have other names.
        image_pattern (`str`): Path of an image under `images`, for formats that have only its `image_id`.
        report (`RowReport`, *optional*): A fresh report to fill: every bad row, and what was met in the others.

    Returns:
        `Dataset` with columns `image` (a PIL image on access), `caption`, `negative_captions` (list of texts, ragged or
        empty), `negative_mask` (as long; 1 where the negative may be used), `image_id` (text; the image's name if there
        is no id) and, if the source has them, `neighbors` (list of rows of this data set with a similar image).

    Raises:
        FileNotFoundError: If `path`, `images` or `only` does not exist.
        ValueError: If the source is damaged, a pickle, not of the `format`, or lacks a column; if no row can be used;
            at the first bad row if `on_bad_row` is "raise".
    """
    check_on_bad_row(on_bad_row)
    if num_negatives is not None and num_negatives < 0:
        raise ValueError(f"num_negatives={num_negatives} must be at least 0.")
    report = RowReport() if report is None else report
    source = read_source(path, split, USED_COLUMNS | {image_column, caption_column})
    if not source.records:
        raise ValueError(f"{source.name} holds no rows.")
    layout = choose_layout(source, format)
    read_row, image_column = row_reader(source, layout, image_column, caption_column, image_pattern)
    pictures = _stored_pictures(source, image_column)

    def reject(index: int, problem: RowProblem) -> None:
        report.reject(BadRow(source.name, source.numbers[index], problem), on_bad_row)

    found = _read_rows(source.records, read_row, only, reject, report.notes)
    found = _find_files(found, image_folder(source, images)) if pictures is None else check_stored(found, pictures)
    rows = {}
    for index, row in found.items():
        if isinstance(row, RowProblem):
            reject(index, row)
        else:
            rows[index] = _with_slots(row, num_negatives, report.notes)
    report.kept = len(rows)
    report.finish(source.name)
    return _build(rows, pictures)


def _read_rows(
    records: list[Record],
    read_row: Callable[[Record], CaptionRow],
    only: str | Path | Collection[str] | None,
    reject: Callable[[int, RowProblem], None],
    notes: Counter[str],
) -> dict[int, CaptionRow]:
    """Read the rows of the images asked for, by index, and check all but their images."""
    wanted, ids = Wanted(only), set()

    def read(index: int, record: Record) -> CaptionRow | None:
        row = read_row(record)
        if not wanted.holds({str(row.image_id)} | image_names(row.image)):
            return None
        row = check_row(row)
        if row.row_id is not None and row.row_id in ids:
            raise RowProblem("duplicate id", reprlib.repr(row.row_id))
        ids.add(row.row_id)
        return row

    rows = read_rows(records, read, reject)
    wanted.note_unmet(notes)
    return rows


def _find_files(rows: dict[int, CaptionRow], folder: Path) -> dict[int, CaptionRow | RowProblem]:
    """Give each row its image's path, or say what is wrong with it; each file is looked at once."""
    found = find_files({row.image for row in rows.values()}, folder)
    return {
        index: place if isinstance(place := found[row.image], RowProblem) else row._replace(image=place)
        for index, row in rows.items()
    }


def _stored_pictures(source: Source, image_column: str | None) -> "Dataset | None":
    """Return the source's image column as "image" if it stores the pictures themselves."""
    from datasets import Image

    pictures = stored_pictures(source, image_column, "image")
    if pictures is None:
        return None
    if is_list(pictures.features["image"]):
        raise ValueError(f"{source.name}: the column {image_column!r} holds lists of images; a caption has one image.")
    return pictures.cast_column("image", Image())


def _with_slots(row: CaptionRow, num_negatives: int | None, notes: Counter[str]) -> CaptionRow:
    """Clean the negatives of a row, and give it the number of slots asked for."""
    negatives, mask = clean_negatives(row.caption, row.negatives, row.mask, notes)
    if num_negatives is not None:
        negatives, mask = negatives[:num_negatives], mask[:num_negatives]
        if sum(mask) < num_negatives:
            notes[f"row with fewer than {num_negatives} negatives"] += 1
        missing = num_negatives - len(mask)
        negatives, mask = negatives + [""] * missing, mask + [0] * missing
    return row._replace(negatives=negatives, mask=mask)


def _build(rows: dict[int, CaptionRow], pictures: "Dataset | None") -> "Dataset":
    """Put the rows, by their index in the source, into a data set, beside the pictures where those are stored."""
    import pyarrow
    from datasets import Dataset, Image, concatenate_datasets

    place = {index: position for position, index in enumerate(rows)}
    if pictures is None:
        names = [row.image for row in rows.values()]
        pictures = Dataset.from_dict({"image": names}).cast_column("image", Image())
        beside = list(rows.items())
    else:
        # Beside every stored picture, wanted or not: dropping rows by an index afterwards spares copying the pictures.
        beside = [(index, rows.get(index, BLANK_ROW)) for index in range(len(pictures))]
    texts = {
        "caption": [row.caption for _, row in beside],
        "negative_captions": [row.negatives for _, row in beside],
        "negative_mask": [row.mask for _, row in beside],
        "image_id": [str(index) if row.image_id is None else row.image_id for index, row in beside],
    }
    types = {
        "caption": pyarrow.string(),
        "negative_captions": pyarrow.list_(pyarrow.string()),
        "negative_mask": pyarrow.list_(pyarrow.int64()),
        "image_id": pyarrow.string(),
    }
    if any(row.neighbors is not None for row in rows.values()):
        texts["neighbors"] = [[place[near] for near in row.neighbors or () if near in place] for _, row in beside]
        types["neighbors"] = pyarrow.list_(pyarrow.int64())
    # `Dataset.from_dict` looks at every value, which takes longer than all the rest.
    texts = Dataset(pyarrow.table(texts, schema=pyarrow.schema(types)))
    dataset = concatenate_datasets([pictures, texts], axis=1)
    return dataset if len(dataset) == len(rows) else dataset.select(list(rows))
