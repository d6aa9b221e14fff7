"""Sources of rows: JSON, JSON lines, CSV, TSV, parquet, image folders and datasets, read into plain records."""

import csv
import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
PICKLES = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass
class Source:
    """The unchecked records of one source.

    Attributes:
        name (`str`): Name of the source in messages.
        container (`str`): "coco" for a JSON object of images and annotations, "imagefolder", "dataset" or "records".
        columns (`set[str]`): Names of all columns found.
        records (`list`): One `dict` per row. Anything else is a bad row.
        numbers (`Sequence[int]`): Row numbers for messages, from 1: lines of a text file, records elsewhere.
        folder (`Path`, *optional*): Folder that image names start from by default.
        pictures (`Dataset`, *optional*): The columns of a dataset that store pictures or lists of pictures.
    """

    name: str
    container: str
    columns: set[str]
    records: list[Any]
    numbers: Sequence[int]
    folder: Path | None = None
    pictures: "Dataset | None" = None


def read_source(source: "str | Path | Dataset", split: str | None, wanted: Collection[str]) -> Source:
    """Read records from a file, a folder, a dataset or the Hub.

    Args:
        source (path, `Dataset`, `DatasetDict` or `str`): The data. "owner/name" is a dataset on the Hub unless there is
            such a path.
        split (`str`, *optional*): Split to read from a source with several splits.
        wanted (collection of `str`): Columns to read from a dataset, whose other columns may be large.

    Returns:
        `Source`: The records and their origin.

    Raises:
        FileNotFoundError: If nothing is found under that name.
        ValueError: If the file is damaged, a pickle, or of an unknown type; if `split` is missing or does not exist.
    """
    if not isinstance(source, (str, Path)):
        return _from_dataset(_one_split(source, split, "the dataset"), "the dataset", wanted)
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, split, wanted)
    if path.is_file():
        if split is not None:
            raise ValueError(f"split={split!r} was given, but {path} is a single file without splits")
        return _read_file(path, wanted)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)) and path.suffix.lower() not in SUFFIXES + PICKLES:
        return _from_dataset(_load_from_hub(str(source), split), str(source), wanted)
    raise FileNotFoundError(f"there is no file or folder {path}")


def find_column(source: Source, accepted: Sequence[str]) -> str:
    """Return the first accepted column that a source has.

    Args:
        source (`Source`): The source.
        accepted (`Sequence[str]`): Column names, in order of preference.

    Returns:
        `str`: One of `accepted`.

    Raises:
        ValueError: If the source has none of them. The message lists its columns and the nearest name.
    """
    for column in accepted:
        if column in source.columns:
            return column
    nearest = difflib.get_close_matches(accepted[0], source.columns, n=1)
    raise ValueError(
        f"{source.name} has no column {' or '.join(map(repr, accepted))}; its columns are {listed(source.columns)}"
        + (f"; the nearest is {nearest[0]!r}" if nearest else "")
    )


def listed(columns: set[str]) -> str:
    """List column names in a message."""
    return ", ".join(map(repr, sorted(columns))) or "none"


def _read_file(path: Path, wanted: Collection[str]) -> Source:
    """Read a file by its suffix. Errors name the file and the place of the damage."""
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read. If you trust it, convert it once: "
            "json.dump(numpy.load(path, allow_pickle=True).tolist(), open('rows.json', 'w'))"
        )
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: unknown type of file {path.suffix!r}; accepted: {', '.join(SUFFIXES)}")
    try:
        if suffix == ".parquet":
            return _read_parquet(path, wanted)
        if suffix == ".json":
            return _read_json(path)
        numbers, records = _read_json_lines(path) if suffix == ".jsonl" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    return _from_records(path, records, numbers)


def _read_json(path: Path) -> Source:
    """Read a JSON list of records, or COCO's object, and add the image's file name to each annotation."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(document, list):
        return _from_records(path, document)
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        found = f"keys {', '.join(document)}" if isinstance(document, dict) else f"a {type(document).__name__}"
        raise ValueError(f"{path} holds {found}; accepted: a list of records, or COCO's 'images' and 'annotations'")
    try:
        file_names = {str(image["id"]): image["file_name"] for image in document["images"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: every entry of 'images' needs 'id' and 'file_name'") from error
    for annotation in document["annotations"]:
        if isinstance(annotation, dict):
            annotation["file_name"] = file_names.get(str(annotation.get("image_id")))
    return _from_records(path, document["annotations"], container="coco")


def _read_json_lines(path: Path) -> tuple[list[int], list[Any]]:
    """Read one record per line, skipping blank lines."""
    numbers, records = [], []
    with open(path, encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    records.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
                numbers.append(number)
    return numbers, records


def _read_csv(path: Path) -> tuple[list[int], list[dict]]:
    """Read a table with a header line, separated by tabs if that line contains one, else by commas."""
    numbers, records = [], []
    with open(path, encoding="utf-8-sig", newline="") as lines:
        delimiter = "\t" if "\t" in lines.readline() else ","
        lines.seek(0)
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                records.append(record)
                numbers.append(reader.line_num)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.reader.line_num}: {error}") from error
    return numbers, records


def _read_parquet(path: Path, wanted: Collection[str]) -> Source:
    """Read a parquet file through the cache of `datasets`. The footer is read first, for a clearer error."""
    import pyarrow.parquet
    from datasets import Dataset

    try:
        pyarrow.parquet.read_schema(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a parquet file: {error}") from error
    source = _from_dataset(Dataset.from_parquet(str(path)), str(path), wanted)
    source.container, source.folder = "records", path.parent
    return source


def _read_folder(path: Path, split: str | None, wanted: Collection[str]) -> Source:
    """Read a folder written by `save_to_disk`, or an image folder with a metadata file."""
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        from datasets import load_from_disk

        return _from_dataset(_one_split(load_from_disk(path), split, str(path)), str(path), wanted)
    folder = path if split is None else path / split
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if not metadata:
        splits = sorted(child.name for child in path.iterdir() if any((child / name).is_file() for name in METADATA))
        hint = f"; splits found: {', '.join(splits)}" if splits else ""
        raise ValueError(f"{folder} holds neither {', '.join(METADATA)} nor a dataset written by save_to_disk{hint}")
    source = _read_file(metadata[0], wanted)
    source.container = "imagefolder"
    return source


def _load_from_hub(name: str, split: str | None) -> "Dataset":
    """Load a dataset from the Hub or its local cache."""
    from datasets import load_dataset

    try:
        loaded = load_dataset(name, split=split)
    except OSError as error:
        raise FileNotFoundError(
            f"{name!r} is neither an existing path nor a dataset that the Hub provides: {error}"
        ) from error
    return _one_split(loaded, None, name)


def _one_split(dataset: Any, split: str | None, name: str) -> "Dataset":
    """Return the requested split, or the only one."""
    from datasets import Dataset, DatasetDict

    if isinstance(dataset, DatasetDict):
        if split is None and len(dataset) == 1:
            return next(iter(dataset.values()))
        if split not in dataset:
            raise ValueError(f"split={split!r} is not in {name}; its splits are {', '.join(dataset)}")
        return dataset[split]
    if not isinstance(dataset, Dataset):
        raise ValueError(f"rows come from a path, a Dataset or a DatasetDict, not from a {type(dataset).__name__}")
    if split is not None and str(dataset.split) != split:
        raise ValueError(f"split={split!r} was given, but {name} is a dataset without splits")
    return dataset


def _from_records(path: Path, records: list[Any], numbers: Sequence[int] = (), container: str = "records") -> Source:
    """Describe records read from a text file."""
    columns = set().union(*(record for record in records if isinstance(record, dict))) - {None}
    return Source(str(path), container, columns, records, numbers or range(1, len(records) + 1), path.parent)


def _from_dataset(dataset: "Dataset", name: str, wanted: Collection[str]) -> Source:
    """Describe a dataset. Columns of pictures stay in it, the wanted others become records."""
    pictures = {column for column, feature in dataset.features.items() if _holds_pictures(feature)}
    texts = [column for column in dataset.column_names if column in wanted and column not in pictures]
    records = dataset.select_columns(texts).to_list() if texts else [{}] * len(dataset)
    return Source(
        name,
        container="dataset",
        columns=set(dataset.column_names),
        records=records,
        numbers=range(1, len(records) + 1),
        pictures=dataset.select_columns(sorted(pictures)) if pictures else None,
    )


def _holds_pictures(feature: Any) -> bool:
    """Return whether a column stores pictures or lists of them: as images, bytes, or structs of bytes and path."""
    from datasets import Image, Value

    if is_list(feature):
        return _holds_pictures(feature.feature)
    return (
        isinstance(feature, Image)
        or feature == Value("binary")
        or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"})
    )


def is_list(feature: Any) -> bool:
    """Return whether a column of a dataset holds lists."""
    from datasets import LargeList, List

    return isinstance(feature, (List, LargeList))
