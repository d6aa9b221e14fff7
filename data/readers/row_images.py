"""The images of rows: which ones are wanted, where they are, and why some cannot be used."""

from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..images import EncodedImage, UnreadableImage, check_image, resolve_inside
from .bad_rows import RowProblem
from .sources import Source, is_list

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Array, ChunkedArray


class Wanted:
    """The images or ids that the user asked for, and those of them that were met.

    Args:
        only (path or collection of `str`, *optional*): Image names or ids. A text file has one per line. By default
            every row is wanted.
    """

    def __init__(self, only: str | Path | Collection[str] | None = None):
        if isinstance(only, (str, Path)):
            only = Path(only).read_text(encoding="utf-8").splitlines()
        self.asked = None if only is None else {str(name).strip() for name in only} - {""}
        self.met: set[str] = set()

    def holds(self, id: Any = None, image: Any = None) -> bool:
        """Return whether an id, an image name or its last part was asked for, and remember each that was."""
        if self.asked is None:
            return True
        names = set() if id is None else {str(id)}
        if image is not None:
            names |= {str(image), PurePath(str(image)).name}
        self.met |= self.asked & names
        return not self.asked.isdisjoint(names)

    def note_unmet(self, notes: Counter[str]) -> None:
        """Count the names that no row has."""
        if self.asked is not None and self.asked != self.met:
            notes["image asked for without a row"] = len(self.asked - self.met)


def image_folder(source: Source, images: str | Path | None) -> Path:
    """Choose the folder that image names start from.

    Args:
        source (`Source`): The rows.
        images (`str` or `Path`, *optional*): The folder that the user named. By default that of the source.

    Returns:
        `Path`: An existing folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If neither the user nor the source names one.
    """
    folder = source.folder if images is None else Path(images)
    if folder is None:
        raise ValueError(f"{source.name} names its images by path: give the folder they start from as `images`")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no image folder {folder}")
    return folder


def find_files(
    names: Collection[str | None], folder: Path
) -> tuple[dict[str | None, str], dict[str | None, RowProblem]]:
    """Find and check image files, in several threads.

    Args:
        names (collection of `str`): Distinct image names. None stands for a missing name.
        folder (`Path`): The folder that names start from and must not leave.

    Returns:
        `tuple[dict, dict]`: by name, the absolute path of each sound file and the problem of each other name.
    """
    with ThreadPoolExecutor() as pool:
        found = dict(zip(names, pool.map(partial(_find_file, folder=folder), names), strict=True))
    problems = {name: place for name, place in found.items() if isinstance(place, RowProblem)}
    return {name: place for name, place in found.items() if not isinstance(place, RowProblem)}, problems


def _find_file(name: str | None, folder: Path) -> str | RowProblem:
    """Return the path of an image inside the folder, or its problem."""
    if not name:
        return RowProblem("missing image", "no file name")
    try:
        path = resolve_inside(folder, name)
    except ValueError as error:
        return RowProblem("image outside its folder", str(error))
    return _image_problem(path) or str(path)


def stored_pictures(source: Source, column: str | None, name: str) -> "Dataset | None":
    """Return a column of a source under another name, or None if it does not store the pictures themselves."""
    if source.pictures is None or column not in source.pictures.column_names:
        return None
    pictures = source.pictures.with_format(None).select_columns(column)
    return pictures if column == name else pictures.rename_column(column, name)


def stored_lists(source: Source, column: str | None, name: str) -> "Dataset | None":
    """Return a column of a source as lists of images, like `stored_pictures`, without copying any picture.

    Args:
        source (`Source`): The rows.
        column (`str`, *optional*): The column. A cell is a picture, a list of pictures, or empty.
        name (`str`): New name of the column.

    Returns:
        `Dataset` with one column of type `List(Image)`, in the order of the source's rows and without missing lists,
        or None if the column does not store pictures.
    """
    import pyarrow
    from datasets import Dataset, Image, List, concatenate_datasets
    from pyarrow import compute

    pictures = stored_pictures(source, column, name)
    if pictures is None:
        return None
    # Adding a column makes a dataset with an index mapping bring its table into the order of its rows.
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
    """Make a dataset of one column of image lists from an Arrow column of lists of paths, bytes or structs of both."""
    import pyarrow
    from datasets import Dataset, Features, Image, List
    from datasets.fingerprint import generate_random_fingerprint
    from datasets.table import table_cast

    schema = Features({name: List(Image())}).arrow_schema
    # The default fingerprint would hash the content, which may be every picture of the source.
    return Dataset(table_cast(pyarrow.table({name: cells}), schema), fingerprint=generate_random_fingerprint())


def check_stored(pictures: "Dataset", indices: Collection[int]) -> dict[int, RowProblem]:
    """Check stored pictures, reading only the header and the end of each from disk.

    Args:
        pictures (`Dataset`): One column of type `Image` or `List(Image)`.
        indices (collection of `int`): The rows to check.

    Returns:
        `dict[int, RowProblem]`: by index, the first problem of each row that has one.
    """
    from pyarrow import BufferReader, ListScalar

    def problem(cell: Any) -> RowProblem | None:
        if isinstance(cell, ListScalar):
            return next(filter(None, map(problem, cell)), None)
        data = cell["bytes"].as_buffer()
        stream = None if data is None else BufferedReader(BufferReader(data))
        return _image_problem({"bytes": stream, "path": cell["path"].as_py()})

    (column,) = pictures.column_names
    batches = pictures.select(list(indices)).with_format("arrow").iter(batch_size=64)
    with ThreadPoolExecutor() as pool:
        problems = [found for batch in batches for found in pool.map(problem, batch[column])]
    return {index: found for index, found in zip(indices, problems, strict=True) if found is not None}


def _image_problem(image: EncodedImage) -> RowProblem | None:
    """Return why an image cannot be used, or None."""
    try:
        check_image(image)
    except UnreadableImage as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return RowProblem("missing image" if missing else "unreadable image", str(error))
    return None
