"""Conversations about images, read from the formats people have into one data set."""

import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bad_rows import BadRow, RowProblem, RowReport, check_on_bad_row
from .conversation_formats import (
    USED_COLUMNS,
    ConversationRow,
    Record,
    choose_image_column,
    choose_layout,
    read_conversation,
    read_image_names,
)
from .row_images import check_stored, find_files, image_folder, image_lists, stored_lists
from .row_reading import Wanted, image_names, read_rows
from .sources import Source, read_source

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BLANK_ROW = ConversationRow(images=[], messages=[], id="")


def load_conversations(
    path: "str | Path | Dataset | DatasetDict | Sequence[str | Path | Dataset | DatasetDict]",
    images: str | Path | Sequence[str | Path | None] | None = None,
    split: str | None = None,
    only: str | Path | Collection[str] | None = None,
    on_bad_row: str = "skip",
    *,
    report: RowReport | None = None,
) -> "Dataset":
    """Load conversations about images, leaving out what cannot be used and saying so.

    Formats, recognised by their structure:

    - LLaVA: records of `conversations[, id, image]`, with turns `{"from": "human", "gpt" or "system", "value": text}`;
    - the Hub's chat format: records of `messages[, id, images]`, with turns `{"role": "user", "assistant" or "system",
      "content": text or list of parts}`.

    They come as a JSON list, JSON lines, parquet, a folder written by `save_to_disk`, a `Dataset`, or a name on the
    Hub. `image` or `images` names the images, or stores them as images, bytes, or structs of bytes and path: one, a
    list, or none in a row that is text only. `<image>` in a text marks the place of the next image; newlines between
    text and the images at either end of it go, since chat templates add their own. Where a row has images but no place
    for them, they come first in the first turn of the user, unless that turn is spelled out in parts.

    Args:
        path (path, `Dataset`, `DatasetDict` or a list of these): What to load; rows of several sources follow one
            another.
        images (path or list of paths, *optional*): Folder that image names start from and must not leave, one for all
            sources or one each; by default the folder of the file.
        split (`str`, *optional*): Split of a data set.
        only (path or collection of `str`, *optional*): What to keep: ids of rows, and names of images, of which a row
            is kept if all its images are among them; a text file has one name a line.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them, and names the first ten in a warning; "raise" stops
            at the first. Bad are a missing, unreadable or outlying image, more or fewer markers than images, an image
            outside the user's turns, an unknown speaker, no turn of the assistant, one that is empty, comes first or
            follows another, a system turn that is not the first, a value of the wrong type, and a repeated row: the
            same id with the same conversation. LLaVA's own mixtures give one id to several conversations about an
            image; these stay, and are noted.
        report (`RowReport`, *optional*): A fresh report to fill: every bad row, and what was met in the others.

    Returns:
        `Dataset` with columns `images` (list of PIL images on access, empty for a row that is text only), `messages`
        (list of `{"role": str, "content": list}`, the content of `{"type": "text", "text": str}` and `{"type": "image",
        "text": None}`) and `id` (text; the row's number in its source if it has none).

    Raises:
        FileNotFoundError: If `path`, `images` or `only` does not exist.
        ValueError: If a source is damaged, a pickle, or lacks a column; if none of its rows can be used; at the first
            bad row if `on_bad_row` is "raise".
    """
    from datasets import concatenate_datasets

    check_on_bad_row(on_bad_row)
    report = RowReport() if report is None else report
    paths = list(path) if isinstance(path, (list, tuple)) else [path]
    folders = list(images) if isinstance(images, (list, tuple)) else [images] * len(paths)
    if not paths or len(folders) != len(paths):
        raise ValueError(f"{len(paths)} sources with {len(folders)} image folders; give one for all or one each.")
    wanted, names, parts = Wanted(only), [], []
    for place, folder in zip(paths, folders, strict=True):
        source = read_source(place, split, USED_COLUMNS)
        names.append(source.name)
        part = _load_source(source, folder, wanted, on_bad_row, report)
        if part is not None:
            parts.append(part)
    rest = RowReport(kept=report.kept)
    wanted.note_unmet(rest.notes)
    report.notes += rest.notes
    rest.finish(", ".join(names))
    return concatenate_datasets(parts)


def _load_source(
    source: Source, images: str | Path | None, wanted: Wanted, on_bad_row: str, report: RowReport
) -> "Dataset | None":
    """Load one source, or return None if none of its rows was asked for."""
    if not source.records:
        raise ValueError(f"{source.name} holds no rows.")
    own = RowReport()

    def reject(index: int, problem: RowProblem) -> None:
        own.reject(BadRow(source.name, source.numbers[index], problem), on_bad_row)

    pictures = stored_lists(source, choose_image_column(source), "images")
    found = _read_rows(source, pictures, wanted, reject, own.notes)
    if pictures is not None:
        found = check_stored(found, pictures)
    elif images is not None or any(row.images for row in found.values()):
        found = _find_files(found, image_folder(source, images))
    rows = {}
    for index, row in found.items():
        if isinstance(row, RowProblem):
            reject(index, row)
        else:
            rows[index] = row
    own.kept = len(rows)
    report.add(own)
    if not own.total:
        return None
    own.finish(source.name)
    return _build(rows, pictures, source.numbers)


def _read_rows(
    source: Source,
    pictures: "Dataset | None",
    wanted: Wanted,
    reject: Callable[[int, RowProblem], None],
    notes: Counter[str],
) -> dict[int, ConversationRow]:
    """Read the conversations asked for, by index, and check all but their images."""
    from pyarrow import compute

    layout, image_column = choose_layout(source), choose_image_column(source)
    stored = None if pictures is None else compute.list_value_length(pictures.data.column("images")).to_pylist()
    ids, told = set(), set()

    def read(index: int, record: Record) -> ConversationRow | None:
        images = read_image_names(record.get(image_column)) if stored is None else [None] * stored[index]
        if not _is_wanted(record.get("id"), images, wanted):
            return None
        row = read_conversation(record, layout, images)
        if row.id is not None:
            telling = hash((row.id, repr(row.images), repr(row.messages)))
            if telling in told:
                raise RowProblem("duplicate id", reprlib.repr(row.id))
            if row.id in ids:
                notes["id of several conversations"] += 1
            ids.add(row.id)
            told.add(telling)
        return row

    return read_rows(source.records, read, reject)


def _is_wanted(id: Any, images: list[str | None], wanted: Wanted) -> bool:
    """Whether a row was asked for by its id, or each of its images was."""
    # A list, not a generator: every name counts as met, also behind one that was not asked for.
    return wanted.holds({str(id)}) or (bool(images) and all([wanted.holds(image_names(image)) for image in images]))


def _find_files(rows: dict[int, ConversationRow], folder: Path) -> dict[int, ConversationRow | RowProblem]:
    """Give each row the paths of its images, or say what is wrong with one; each file is looked at once."""
    found = find_files({image for row in rows.values() for image in row.images}, folder)

    def place(row: ConversationRow) -> ConversationRow | RowProblem:
        places = [found[image] for image in row.images]
        return next((bad for bad in places if isinstance(bad, RowProblem)), row._replace(images=places))

    return {index: place(row) for index, row in rows.items()}


def _build(rows: dict[int, ConversationRow], pictures: "Dataset | None", numbers: Sequence[int]) -> "Dataset":
    """Put the rows, by their index in the source, into a data set, beside the pictures where those are stored."""
    import pyarrow
    from datasets import Dataset, concatenate_datasets

    text = pyarrow.string()
    part = pyarrow.struct({"type": text, "text": text})
    message = pyarrow.struct({"role": text, "content": pyarrow.list_(part)})
    beside = rows
    if pictures is None:
        pictures = image_lists(pyarrow.array([row.images for row in rows.values()], pyarrow.list_(text)), "images")
    else:
        # Beside every stored picture, wanted or not: dropping rows by an index afterwards spares copying the pictures.
        beside = {index: rows.get(index, BLANK_ROW) for index in range(len(pictures))}
    ids = [str(numbers[index] if row.id is None else row.id) for index, row in beside.items()]
    messages = pyarrow.array([row.messages for row in beside.values()], pyarrow.list_(message))
    texts = Dataset(pyarrow.table({"messages": messages, "id": pyarrow.array(ids, text)}))
    dataset = concatenate_datasets([pictures, texts], axis=1)
    return dataset if len(dataset) == len(rows) else dataset.select(list(rows))
