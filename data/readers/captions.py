"""Reader of captions: images with their captions and negatives, from the formats that people have into one dataset."""

import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from .bad_rows import BadRows, RowProblem, RowReport, check_on_bad_row
from .caption_formats import COCO_2014_PATTERN, USED_COLUMNS, CaptionRow, Layout, check_row, choose_layout
from .hygiene import check_record, clean_negatives
from .row_images import Wanted, check_stored, find_files, image_folder, stored_pictures
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
    """Load image-caption pairs with their negative captions. Rows that cannot be used are left out and reported.

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

    A negative is dropped if it is empty, or equal to its caption or to an earlier negative apart from case, spaces and
    final punctuation. If slots have a type ("ceclip", or a `negative_mask`), it keeps its place and is masked instead.
    The report counts each kind.

    Args:
        path (path, `Dataset` or `DatasetDict`): The data.
        images (`str` or `Path`, *optional*): Folder that image names start from and must not leave. Default: the
            folder of the file.
        split (`str`, *optional*): Split of a dataset, or subfolder of an image folder.
        only (path or collection of `str`, *optional*): Images to keep, by file name or id. A text file has one per
            line.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them, and names the first ten in a warning. "raise" stops
            at the first. A row is bad if its image is missing, unreadable or outside the folder, its caption is empty,
            a value has the wrong type, or its id is a duplicate ("coco", "ceclip").
        num_negatives (`int`, *optional*): Negatives per row, >= 0. Further ones are cut; missing ones are filled with
            "" and mask 0, and counted. By default each row keeps the number that it has.
        format (`str`, *optional*): Name of the format, if it should not be recognised.
        image_column, caption_column (`str`, *optional*): Columns of a table with unusual names.
        image_pattern (`str`): Path of an image below `images`, for formats that only have its `image_id`.
        report (`RowReport`, *optional*): A new report to fill with the bad rows and other findings.

    Returns:
        `Dataset` with columns `image` (a PIL image on access), `caption`, `negative_captions` (list of texts, ragged,
        may be empty), `negative_mask` (same length, 1 if the negative may be used), `image_id` (text; the name of the
        image if it has no id) and, if the source has them, `neighbors` (indices of the rows of this dataset with a
        similar image).

    Raises:
        FileNotFoundError: If `path`, `images` or `only` does not exist.
        ValueError: If the source is damaged, a pickle, not of the `format`, or lacks a column; if no row can be used;
            at the first bad row if `on_bad_row` is "raise".

    Example:

        >>> from datasets import Dataset
        >>> from PIL import Image
        >>> rows = {
        ...     "image": [Image.new("RGB", (8, 8), "red")],
        ...     "caption": ["A red square."],
        ...     "negative_captions": [["A blue square.", "a red square"]],
        ... }
        >>> dataset = load_captions(Dataset.from_dict(rows), num_negatives=2)
        >>> dataset[0]["negative_captions"], dataset[0]["negative_mask"]
        (['A blue square.', ''], [1, 0])
    """
    check_on_bad_row(on_bad_row)
    if num_negatives is not None and num_negatives < 0:
        raise ValueError(f"num_negatives={num_negatives} must be at least 0")
    report = RowReport() if report is None else report
    wanted = Wanted(only)

    source = read_source(path, split, USED_COLUMNS | {name for name in (image_column, caption_column) if name})
    if not source.records:
        raise ValueError(f"{source.name} holds no rows")
    layout = choose_layout(source, format, image_column, caption_column, image_pattern)
    pictures = _stored_pictures(source, layout.image_column)

    bad_rows = BadRows(source.name, source.numbers, on_bad_row, report)
    rows = _read_rows(source, layout, wanted, num_negatives, bad_rows)
    if pictures is None:
        rows = _find_images(rows, image_folder(source, images), bad_rows)
    else:
        rows = bad_rows.remove(check_stored(pictures, rows), rows)

    report.kept = len(rows)
    wanted.note_unmet(report.notes)
    for row in rows.values():
        report.notes.update(row.notes)
    report.finish(source.name)
    return _build(rows, pictures)


def _read_rows(
    source: Source, layout: Layout, wanted: Wanted, num_negatives: int | None, bad_rows: BadRows
) -> dict[int, CaptionRow]:
    """Read the wanted rows, by index, check their types and clean their negatives. Images are checked later."""
    rows, ids = {}, set()
    for index, record in enumerate(source.records):
        try:
            row = layout.read(check_record(record))
            if not wanted.holds(row.image_id, row.image):
                continue
            row = check_row(row)
            if row.row_id in ids:
                raise RowProblem("duplicate id", reprlib.repr(row.row_id))
        except RowProblem as problem:
            bad_rows.add(index, problem)
            continue
        if row.row_id is not None:
            ids.add(row.row_id)
        rows[index] = _with_clean_negatives(row, num_negatives)
    return rows


def _with_clean_negatives(row: CaptionRow, num_negatives: int | None) -> CaptionRow:
    """Clean the negatives of a row, then cut or fill them to the requested number."""
    negatives, mask, notes = clean_negatives(row.caption, row.negatives, row.mask)
    if num_negatives is not None:
        negatives, mask = negatives[:num_negatives], mask[:num_negatives]
        if sum(mask) < num_negatives:
            notes.append(f"row with fewer than {num_negatives} negatives")
        missing = num_negatives - len(mask)
        negatives, mask = negatives + [""] * missing, mask + [0] * missing
    return row._replace(negatives=negatives, mask=mask, notes=notes)


def _stored_pictures(source: Source, image_column: str | None) -> "Dataset | None":
    """Return the image column as "image" if it stores the pictures themselves."""
    from datasets import Image

    pictures = stored_pictures(source, image_column, "image")
    if pictures is None:
        return None
    if is_list(pictures.features["image"]):
        raise ValueError(f"{source.name}: the column {image_column!r} holds lists of images; a caption has one image")
    return pictures.cast_column("image", Image())


def _find_images(rows: dict[int, CaptionRow], folder: Path, bad_rows: BadRows) -> dict[int, CaptionRow]:
    """Replace image names by paths. Each file is checked once, however many rows share it."""
    paths, problems = find_files({row.image for row in rows.values()}, folder)
    rows = bad_rows.remove({index: problems[row.image] for index, row in rows.items() if row.image in problems}, rows)
    return {index: row._replace(image=paths[row.image]) for index, row in rows.items()}


def _build(rows: dict[int, CaptionRow], pictures: "Dataset | None") -> "Dataset":
    """Build the dataset from rows by their index in the source, beside the pictures if the source stores them."""
    import pyarrow
    from datasets import Dataset, Image, concatenate_datasets

    place = {index: position for position, index in enumerate(rows)}
    if pictures is None:
        names = [row.image for row in rows.values()]
        pictures = Dataset.from_dict({"image": names}).cast_column("image", Image())
        beside = list(rows.items())
    else:
        # One row beside every stored picture, wanted or not: selecting rows afterwards copies no picture.
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
    # `Dataset.from_dict` inspects every value, which takes longer than all other steps together.
    texts = Dataset(pyarrow.table(texts, schema=pyarrow.schema(types)))
    dataset = concatenate_datasets([pictures, texts], axis=1)
    return dataset if len(dataset) == len(rows) else dataset.select(list(rows))
