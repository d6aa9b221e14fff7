"""The eleven datasets on which papers check that fine-tuning keeps zero-shot classification."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from .zero_shot import ZeroShotClassification

# Per name: `title`; `images` and `classes`, their numbers in the usual test split (null where papers differ);
# `mean_per_class`, whether papers print the mean per class; OpenAI's `templates`; and `renames`, OpenAI's class names.
ZERO_SHOT_SETS: dict[str, dict[str, Any]] = json.loads(
    files(__package__).joinpath("zero_shot_sets.json").read_text(encoding="utf-8")
)["sets"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class LabelledImages(NamedTuple):
    """Images, the position of each image's class, the names of the classes if the source has them, and notes."""

    images: list[Any]
    labels: list[int]
    names: list[str] | None
    notes: list[str]


class ZeroShotSet(ZeroShotClassification):
    """One of the eleven datasets of DeGLA's table, with OpenAI's templates, read from disk.

    Schema: a folder with one folder of JPEG, PNG or WEBP files per class (SUN397 as it is packed: `a/abbey/x.jpg`), or
    parquet files, or a folder written by `datasets.save_to_disk`, with a column of images and a column of labels.

    The headline is the mean per class for Pets, Flowers102, Caltech101 and Aircraft, and top-1 for the others. Papers
    differ in the test splits of SUN397 and Caltech101. For the other datasets a note reports an unusual number of
    images or classes.

    Source: the templates and the names of Caltech101 are those of https://github.com/openai/CLIP (MIT). Class names are
    those of the source, with spaces for underscores. OpenAI's names differ for some datasets, and ImageNet's folders
    have no names: give `class_names` there. Licence: each dataset's own; nothing is shipped.

    Args:
        dataset (`str`): One of `ZERO_SHOT_SETS`.
        source (`str` or `Path`): Folder or parquet file of the test split.
        class_names (sequence, mapping, `str` or `Path`, *optional*): Names for prompts: a list in the order of the
            labels (of the sorted folders), a mapping from the source's names, or a JSON file of either.
        split (`str`, *optional*): Read only parquet files whose name begins with this.
        image_column, label_column (`str`): Columns of parquet files and saved datasets. Their images are held in
            memory.

    Raises:
        ValueError: If the dataset is unknown, the source holds no labelled images, or class names are missing.

    Reference:
        CLIP, https://huggingface.co/papers/2103.00020; DeGLA, https://huggingface.co/papers/2504.16801.
    """

    suite = "Zero-shot classification"
    columns: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        dataset: str,
        source: str | Path,
        class_names: Sequence[str] | Mapping[str, str] | str | Path | None = None,
        split: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
    ):
        if dataset not in ZERO_SHOT_SETS:
            raise ValueError(f"dataset {dataset!r}; must be one of {', '.join(ZERO_SHOT_SETS)}")
        facts = ZERO_SHOT_SETS[dataset]
        source = Path(source)
        stored = source.is_file() or any(source.glob("**/*.parquet")) or (source / "state.json").is_file()
        found = read_dataset(source, split, image_column, label_column) if stored else read_class_folders(source)
        names = _prompt_names(found, class_names, facts["renames"], source)
        headline = "mean_per_class" if facts["mean_per_class"] else "top1"
        self.name = f"zero_shot_{dataset}"  # type: ignore[misc]  # one class for eleven datasets
        self.columns = {headline: facts["title"]}  # type: ignore[misc]
        usual, size = (facts["images"], facts["classes"]), (len(found.images), len(names))
        unusual = [
            f"{met} {what} where the usual test split has {expected}"
            for what, met, expected in zip(("images", "classes"), size, usual, strict=True)
            if expected not in (None, met)
        ]
        super().__init__(found.images, found.labels, names, facts["templates"], [*found.notes, *unusual])


def read_class_folders(source: Path) -> LabelledImages:
    """Read a folder with one folder per class.

    Args:
        source (`Path`): The folder. The name of a class in a nested folder is the path, as in `g/garage/indoor`.

    Returns:
        `LabelledImages`: classes in the order of their paths.

    Raises:
        ValueError: If there is no image.
    """
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.parent != source]
    if not images:
        raise ValueError(
            f"{source}: no images ({', '.join(IMAGE_SUFFIXES)}) in folders of classes, and no parquet files"
        )
    classes = [path.parent.relative_to(source).as_posix() for path in images]
    names = sorted(set(classes))
    others = len(paths) - len(images)
    notes = [f"{others} files that are not images in folders of classes are left out"] if others else []
    return LabelledImages(images, [names.index(name) for name in classes], names, notes)


def read_dataset(source: Path, split: str | None, image_column: str, label_column: str) -> LabelledImages:
    """Read parquet files, or a folder written by `datasets.save_to_disk`.

    Args:
        source (`Path`): A parquet file, a folder that holds some at any depth, or a saved dataset.
        split (`str`, *optional*): Read only parquet files whose name begins with this.
        image_column, label_column (`str`): Columns of the images and of the labels: text, class labels or integers.

    Returns:
        `LabelledImages`: text labels are numbered in alphabetical order.

    Raises:
        ValueError: If a column or the split is missing.
    """
    from datasets import ClassLabel, Dataset, Image, load_from_disk

    if (source / "state.json").is_file():
        dataset = load_from_disk(source)
    else:
        parts = sorted(source.glob("**/*.parquet")) if source.is_dir() else [source]
        chosen = [str(part) for part in parts if split is None or part.name.startswith(split)]
        if not chosen:
            there = ", ".join(part.name for part in parts[:9])
            raise ValueError(f"{source}: no file name begins with the split {split!r}; there are {there}")
        dataset = Dataset.from_parquet(chosen)
    absent = [column for column in (image_column, label_column) if column not in dataset.column_names]
    if absent:
        raise ValueError(f"{source}: no column {', '.join(absent)}; its columns are {', '.join(dataset.column_names)}")
    values, feature = dataset[label_column][:], dataset.features[label_column]
    names: list[str] | None = feature.names if isinstance(feature, ClassLabel) else None
    if all(isinstance(value, str) for value in values):
        names = sorted(set(values))
        number = {name: position for position, name in enumerate(names)}
        values = [number[value] for value in values]
    images = dataset.select_columns([image_column]).cast_column(image_column, Image(decode=False))
    return LabelledImages(images[image_column][:], values, names, [])


def _prompt_names(
    found: LabelledImages,
    class_names: Sequence[str] | Mapping[str, str] | str | Path | None,
    renames: Mapping[str, str],
    source: Path,
) -> list[str]:
    """Return the names of the classes for prompts."""
    given: Any = class_names
    if isinstance(class_names, (str, Path)):
        given = json.loads(Path(class_names).read_text(encoding="utf-8"))
    if isinstance(given, Sequence):
        if found.names is not None and len(given) != len(found.names):
            raise ValueError(
                f"{len(given)} class_names for the {len(found.names)} classes of {source}; must be one per class"
            )
        return list(given)
    if found.names is None:
        raise ValueError(f"{source}: the labels are numbers without names; give class_names in their order")
    if given is None:
        given = {name: renames.get(name, _spoken(name)) for name in found.names}
        if numbered := sorted(name for name, spoken in given.items() if re.fullmatch(r"n?\d+", spoken)):
            raise ValueError(
                f"{source}: {len(numbered)} classes have numbers instead of names, such as {numbered[0]}; give "
                "class_names for the prompts"
            )
    if unnamed := [name for name in found.names if name not in given]:
        raise ValueError(f"class_names has no name for {len(unnamed)} classes of {source}, such as {unnamed[0]!r}")
    return [given[name] for name in found.names]


def _spoken(name: str) -> str:
    """Turn the name of a class into words; SUN397 sorts its folders under single letters."""
    return " ".join(part for part in name.split("/") if len(part) > 1 or part == name).replace("_", " ")
