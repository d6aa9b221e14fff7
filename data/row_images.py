"""The images of rows: where they are, and what is wrong with those that cannot be used."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .bad_rows import RowProblem
from .images import ImageSource, UnreadableImage, check_image, resolve_inside
from .sources import Source, is_list

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Array, ChunkedArray

Row = TypeVar("Row")


def image_folder(source: Source, images: str | Path | None) -> Path:
    """Choose the folder that image names start from.

    Args:
        source (`Source`): What was read.
        images (`str` or `Path`, *optional*): The folder, where the user named one.

    Returns:
        `Path` of a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If neither the user nor the source names one.
    """
    if images is None and source.folder is None:
        raise ValueError(f"{source.name} names its images by path: give the folder they start from as `images`.")
    folder = source.folder if images is None else Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {folder}.")
    return folder


def find_files(names: Collection[str | None], folder: Path) -> dict[str | None, str | RowProblem]:
    """Find image files and check them, many at a time.

    Args:
        names (collection of `str`): Distinct image names; None is a missing one.
        folder (`Path`): Where they start, and what they must not leave.

    Returns:
        `dict`: For each name the file's absolute path, or what is wrong with it.
    """
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(partial(_find_file, folder=folder), names), strict=True))


def _find_file(name: str | None, folder: Path) -> str | RowProblem:
    """Find one image inside the folder, or say what is wrong with it."""
    if not name:
        return RowProblem("missing image", "no file name")
    try:
        path = resolve_inside(folder, name)
    except ValueError as error:
        return RowProblem("image outside its folder", str(error))
    return _image_problem(path) or str(path)


def stored_pictures(source: Source, column: str | None, name: str) -> "Dataset | None":
    """Return a source's column alone, under another name, if it stores the pictures themselves."""
    if source.pictures is None or column not in source.pictures.column_names:
        return None
    pictures = source.pictures.with_format(None).select_columns(column)
    return pictures if column == name else pictures.rename_column(column, name)


def stored_lists(source: Source, column: str | None, name: str) -> "Dataset | None":
    """Return a source's column as `stored_pictures`, as lists of images; no picture is copied.

    Args:
        source (`Source`): What was read.
        column (`str`, *optional*): The column; a cell is a picture, a list of pictures or empty.
        name (`str`): What to call it.

    Returns:
        `Dataset` with one column, of `List(Image)`, in the order of the source's rows and without missing lists; or
        None.
    """
    import pyarrow
    from datasets import Dataset, Image, List, concatenate_datasets
    from pyarrow import compute

    pictures = stored_pictures(source, column, name)
    if pictures is None:
        return None
    # Beside a new column, a data set's table is brought into the order of its rows if it has another.
    order = Dataset(pyarrow.table({"order": range(len(pictures))}))
    pictures = concatenate_datasets([pictures, order], axis=1).select_columns(name)
    cells, lists = pictures.data.column(name), is_list(pictures.features[name])
    if pictures.features[name] == List(Image()) and not cells.null_count:
        return pictures
    chunks = []
    for chunk in cells.chunks:
        lengths = compute.list_value_length(chunk).fill_null(0) if lists else chunk.is_valid().cast("int32")
        ends = compute.cumulative_sum(lengths).cast("int32")
        offsets = pyarrow.concat_arrays([pyarrow.array([0], "int32"), ends])
        chunks.append(pyarrow.ListArray.from_arrays(offsets, chunk.flatten() if lists else chunk.drop_null()))
    return image_lists(pyarrow.chunked_array(chunks), name)


def image_lists(cells: "Array | ChunkedArray", name: str) -> "Dataset":
    """Make a data set of one column of image lists from an Arrow column of lists of paths, bytes or structs of both."""
    import pyarrow
    from datasets import Dataset, Features, Image, List
    from datasets.fingerprint import generate_random_fingerprint
    from datasets.table import table_cast

    schema = Features({name: List(Image())}).arrow_schema
    # The usual fingerprint is a hash of the content, which may be every picture there is.
    return Dataset(table_cast(pyarrow.table({name: cells}), schema), fingerprint=generate_random_fingerprint())


def check_stored(rows: Mapping[int, Row], pictures: "Dataset") -> dict[int, "Row | RowProblem"]:
    """Check stored pictures; of each, no more is read from disk than its header and its end.

    Args:
        rows (mapping of `int`): The rows to look at, by index.
        pictures (`Dataset`): With one column, of `Image` or `List(Image)`.

    Returns:
        `dict`: The same rows; in the place of one with a bad picture, what is wrong with its first.
    """
    from pyarrow import BufferReader, ListScalar

    def problem(cell: Any) -> RowProblem | None:
        if isinstance(cell, ListScalar):
            return next(filter(None, map(problem, cell)), None)
        data = cell["bytes"].as_buffer()
        stream = None if data is None else BufferedReader(BufferReader(data))
        return _image_problem({"bytes": stream, "path": cell["path"].as_py()})

    (column,) = pictures.column_names
    batches = pictures.select(list(rows)).with_format("arrow").iter(batch_size=64)
    with ThreadPoolExecutor() as pool:
        problems = [found for batch in batches for found in pool.map(problem, batch[column])]
    return {index: found or row for (index, row), found in zip(rows.items(), problems, strict=True)}


def _image_problem(image: ImageSource) -> RowProblem | None:
    """Say what is wrong with an image, if anything is."""
    try:
        check_image(image)
    except UnreadableImage as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return RowProblem("missing image" if missing else "unreadable image", str(error))
    return None
