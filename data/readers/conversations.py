"""Reader of conversations: chats about images, from the formats that people have into one dataset."""

import reprlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bad_rows import BadRows, RowProblem, RowReport, check_on_bad_row
from .conversation_formats import (
    USED_COLUMNS,
    ConversationRow,
    Layout,
    choose_image_column,
    choose_layout,
    read_conversation,
    read_image_names,
)
from .hygiene import check_record
from .row_images import Wanted, check_stored, find_files, image_folder, image_lists, stored_lists
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
    """Load conversations about images. Rows that cannot be used are left out and reported.

    Formats, recognised by their structure:

    - LLaVA: records of `conversations[, id, image]`, with turns `{"from": "human", "gpt" or "system", "value": text}`;
    - the Hub's chat format: records of `messages[, id, images]`, with turns `{"role": "user", "assistant" or "system",
      "content": text or list of parts}`.

    Records come as a JSON list, JSON lines, parquet, a folder written by `save_to_disk`, a `Dataset`, or a name on the
    Hub. `image` or `images` names the images, or stores them as images, bytes, or structs of bytes and path. A cell is
    one image, a list, or empty for a conversation without images.

    `<image>` in a text marks the place of the next image. Newlines between the text and images at its start or end are
    removed, since chat templates add their own. If a row has images but no markers, the images come first in the first
    turn of the user, unless that turn is a list of parts.

    Args:
        path (path, `Dataset`, `DatasetDict` or a list of these): The data. The rows of several sources follow one
            another.
        images (path or list of paths, *optional*): Folder that image names start from and must not leave: one for all
            sources, or one per source. Default: the folder of the file.
        split (`str`, *optional*): Split of a dataset.
        only (path or collection of `str`, *optional*): Ids of rows and names of images to keep. A row is kept if its id
            or all its images are listed. A text file has one name per line.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them, and names the first ten in a warning. "raise" stops
            at the first. A row is bad if

            - an image is missing, unreadable, outside the folder, or outside the turns of the user;
            - it has more or fewer markers than images;
            - a speaker is unknown, or a system turn is not the first;
            - no turn is the assistant's, or one of these is empty, comes first or follows another;
            - a value has the wrong type;
            - id and conversation repeat an earlier row. LLaVA's own mixtures give one id to several conversations about
              an image. These rows are kept and noted in the report.
        report (`RowReport`, *optional*): A new report to fill with the bad rows and other findings.

    Returns:
        `Dataset` with columns `images` (list of PIL images on access, may be empty), `messages` (list of
        `{"role": str, "content": list}`, with content parts `{"type": "text", "text": str}` and `{"type": "image",
        "text": None}`) and `id` (text; the row's number in its source if it has no id).

    Raises:
        FileNotFoundError: If `path`, `images` or `only` does not exist.
        ValueError: If a source is damaged, a pickle, or lacks a column; if none of its rows can be used; at the first
            bad row if `on_bad_row` is "raise".

    Example:

        >>> from datasets import Dataset
        >>> from PIL import Image
        >>> turns = [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A red square."}]
        >>> rows = {"image": [Image.new("RGB", (8, 8), "red")], "conversations": [turns]}
        >>> dataset = load_conversations(Dataset.from_dict(rows))
        >>> for message in dataset[0]["messages"]:
        ...     print(message["role"], [part["text"] or part["type"] for part in message["content"]])
        user ['image', 'What is it?']
        assistant ['A red square.']
    """
    from datasets import concatenate_datasets

    check_on_bad_row(on_bad_row)
    report = RowReport() if report is None else report
    wanted = Wanted(only)
    paths = list(path) if isinstance(path, (list, tuple)) else [path]
    folders: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images] * len(paths)
    if not paths or len(folders) != len(paths):
        raise ValueError(f"{len(paths)} sources with {len(folders)} image folders; give one for all or one per source")

    names, parts = [], []
    for place, folder in zip(paths, folders, strict=True):
        source = read_source(place, split, USED_COLUMNS)
        names.append(source.name)
        part = _load_source(source, folder, wanted, on_bad_row, report)
        if part is not None:
            parts.append(part)

    total = RowReport(kept=report.kept)
    wanted.note_unmet(total.notes)
    report.notes += total.notes
    total.finish(", ".join(names))
    return concatenate_datasets(parts)


def _load_source(
    source: Source, images: str | Path | None, wanted: Wanted, on_bad_row: str, report: RowReport
) -> "Dataset | None":
    """Load one source and add its counts to the report. Return None if none of its rows is wanted."""
    if not source.records:
        raise ValueError(f"{source.name} holds no rows")
    image_column = choose_image_column(source)
    pictures = stored_lists(source, image_column, "images")
    layout = choose_layout(source)

    own = RowReport()
    bad_rows = BadRows(source.name, source.numbers, on_bad_row, own)
    rows = _read_rows(source, layout, image_column, pictures, wanted, bad_rows)
    if pictures is not None:
        rows = bad_rows.remove(check_stored(pictures, rows), rows)
    elif images is not None or any(row.images for row in rows.values()):
        rows = _find_images(rows, image_folder(source, images), bad_rows)

    own.kept = len(rows)
    report.add(own)
    if not own.total:
        return None
    own.finish(source.name)
    return _build(rows, pictures, source.numbers)


def _read_rows(
    source: Source,
    layout: Layout,
    image_column: str | None,
    pictures: "Dataset | None",
    wanted: Wanted,
    bad_rows: BadRows,
) -> dict[int, ConversationRow]:
    """Read the wanted conversations, by index, and check their types. Images are checked later."""
    from pyarrow import compute

    lengths = None if pictures is None else compute.list_value_length(pictures.data.column("images")).to_pylist()
    rows: dict[int, ConversationRow] = {}
    ids, conversations = set(), set()
    image_key: Any = image_column
    for index, record in enumerate(source.records):
        try:
            record = check_record(record)
            stored = [None] * lengths[index] if lengths is not None else None
            images: list[Any] = read_image_names(record.get(image_key)) if stored is None else stored
            if not _is_wanted(record.get("id"), images, wanted):
                continue
            row = read_conversation(record, layout, images)
            conversation = None if row.id is None else hash((row.id, repr(row.images), repr(row.messages)))
            if conversation in conversations:
                raise RowProblem("duplicate id", reprlib.repr(row.id))
        except RowProblem as problem:
            bad_rows.add(index, problem)
            continue
        if row.id is not None:
            if row.id in ids:
                bad_rows.report.notes["id of several conversations"] += 1
            ids.add(row.id)
            conversations.add(conversation)
        rows[index] = row
    return rows


def _is_wanted(id: Any, images: list[str | None], wanted: Wanted) -> bool:
    """Return whether the id of a row, or each of its images, was asked for."""
    # The list, unlike a generator, records every name as met, also after one that was not asked for.
    return wanted.holds(id) or (bool(images) and all([wanted.holds(image=image) for image in images]))


def _find_images(rows: dict[int, ConversationRow], folder: Path, bad_rows: BadRows) -> dict[int, ConversationRow]:
    """Replace image names by paths. Each file is checked once, however many rows share it."""
    paths, problems = find_files({image for row in rows.values() for image in row.images}, folder)
    first_problems = {
        index: next(problems[image] for image in row.images if image in problems)
        for index, row in rows.items()
        if not problems.keys().isdisjoint(row.images)
    }
    rows = bad_rows.remove(first_problems, rows)
    return {index: row._replace(images=[paths[image] for image in row.images]) for index, row in rows.items()}


def _build(rows: dict[int, ConversationRow], pictures: "Dataset | None", numbers: Sequence[int]) -> "Dataset":
    """Build the dataset from rows by their index in the source, beside the pictures if the source stores them."""
    import pyarrow
    from datasets import Dataset, concatenate_datasets

    text = pyarrow.string()
    part = pyarrow.struct({"type": text, "text": text})
    message = pyarrow.struct({"role": text, "content": pyarrow.list_(part)})
    beside = rows
    if pictures is None:
        pictures = image_lists(pyarrow.array([row.images for row in rows.values()], pyarrow.list_(text)), "images")
    else:
        # One row beside every stored picture, wanted or not: selecting rows afterwards copies no picture.
        beside = {index: rows.get(index, BLANK_ROW) for index in range(len(pictures))}
    ids = [str(numbers[index] if row.id is None else row.id) for index, row in beside.items()]
    messages = pyarrow.array([row.messages for row in beside.values()], pyarrow.list_(message))
    texts = Dataset(pyarrow.table({"messages": messages, "id": pyarrow.array(ids, text)}))
    dataset = concatenate_datasets([pictures, texts], axis=1)
    return dataset if len(dataset) == len(rows) else dataset.select(list(rows))
