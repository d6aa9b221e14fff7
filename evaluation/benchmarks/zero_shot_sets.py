"""The eleven data sets on which papers check that zero-shot classification survives fine-tuning."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from .zero_shot import ZeroShotClassification

# By name: `title`, `images` and `classes` of the usual test split (null where papers differ), whether papers print the
# mean per class, OpenAI's `templates`, and the class names that OpenAI `renames`.
ZERO_SHOT_SETS: dict[str, dict[str, Any]] = json.loads(
    files(__package__).joinpath("zero_shot_sets.json").read_text(encoding="utf-8")
)["sets"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class LabelledImages(NamedTuple):
    """Images with the positions of their classes, the classes' names if the source has any, and what to note."""

    images: list[Any]
    labels: list[int]
    names: list[str] | None
    notes: list[str]


class ZeroShotSet(ZeroShotClassification):
    """One of the eleven sets of DeGLA's table, with OpenAI's templates, read from the disk.

    Schema: a folder with one folder of JPEG, PNG or WEBP files a class (SUN397 as it is packed: `a/abbey/x.jpg`), or
    parquet files, or a folder written by `datasets.save_to_disk`, with a column of images and one of labels.

    The headline is the mean per class for Pets, Flowers102, Caltech101 and Aircraft, and top-1 elsewhere. Test splits
    of SUN397 and Caltech101 differ between papers; for the others a note says if the number of images is not the usual.

    Source: the templates and the names of Caltech101 are those of https://github.com/openai/CLIP (MIT). Class names of
    the source are used with spaces for underscores; OpenAI's differ for some sets, and ImageNet's folders have no
    names, so give `class_names` there. Licence: each data set's own; nothing is shipped.

    Args:
        dataset (`str`): One of `ZERO_SHOT_SETS`.
        source (`str` or `Path`): Folder or parquet file of the test split.
        class_names (sequence, mapping, `str` or `Path`, optional): Names for prompts: in the order of the labels (of
            the sorted folders), or by the source's own name; or a JSON file of either.
        split (`str`, optional): Take only parquet files whose name begins so.
        image_column, label_column (`str`): Columns of parquet files and data sets. Their images are held in memory.

    Raises:
        ValueError: If the set is unknown, the source holds no labelled images, or names are missing.

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
            raise ValueError(f"data set {dataset!r}; must be one of {', '.join(ZERO_SHOT_SETS)}")
        facts = ZERO_SHOT_SETS[dataset]
        source = Path(source)
        stored = source.is_file() or any(source.glob("**/*.parquet")) or (source / "state.json").is_file()
        found = read_dataset(source, split, image_column, label_column) if stored else read_class_folders(source)
        names = _prompt_names(found, class_names, facts["renames"], source)
        self.name = f"zero_shot_{dataset}"
        self.columns = {"mean_per_class" if facts["mean_per_class"] else "top1": facts["title"]}
        usual, size = (facts["images"], facts["classes"]), (len(found.images), len(names))
        unusual = [
            f"{met} {what} where the usual test split has {expected}"
            for what, met, expected in zip(("images", "classes"), size, usual, strict=True)
            if expected not in (None, met)
        ]
        super().__init__(found.images, found.labels, names, facts["templates"], [*found.notes, *unusual])


def read_class_folders(source: Path) -> LabelledImages:
    """Read a folder of one folder a class.

    Args:
        source (`Path`): The folder. A class may be nested deeper; its name is then the path, as in `g/garage/indoor`.

    Returns:
        `LabelledImages`: classes in the order of their paths.

    Raises:
        ValueError: If there is no image.
    """
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.parent != source]
    if not images:
        raise ValueError(f"{source}: no image in a folder of its class ({', '.join(IMAGE_SUFFIXES)}), no parquet file")
    classes = [path.parent.relative_to(source).as_posix() for path in images]
    names = sorted(set(classes))
    others = len(paths) - len(images)
    notes = [f"{others} files that are no images of a class are left out"] if others else []
    return LabelledImages(images, [names.index(name) for name in classes], names, notes)


def read_dataset(source: Path, split: str | None, image_column: str, label_column: str) -> LabelledImages:
    """Read parquet files, or a folder written by `datasets.save_to_disk`.

    Args:
        source (`Path`): A parquet file, a folder with some at any depth, or a saved data set.
        split (`str`, optional): Take only parquet files whose name begins so.
        image_column, label_column (`str`): Columns of the images, and of their labels: text, class labels or integers.

    Returns:
        `LabelledImages`: text labels are numbered in the order of the alphabet.

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
            raise ValueError(f"{source}: split {split!r} begins none of {', '.join(part.name for part in parts[:9])}")
        dataset = Dataset.from_parquet(chosen)
    absent = [column for column in (image_column, label_column) if column not in dataset.column_names]
    if absent:
        raise ValueError(f"{source}: no column {', '.join(absent)}; its columns are {', '.join(dataset.column_names)}")
    values, feature = dataset[label_column][:], dataset.features[label_column]
    names = feature.names if isinstance(feature, ClassLabel) else None
    if all(isinstance(value, str) for value in values):
        names = sorted(set(values))
        values = [names.index(value) for value in values]
    images = dataset.select_columns([image_column]).cast_column(image_column, Image(decode=False))
    return LabelledImages(images[image_column][:], values, names, [])


def _prompt_names(
    found: LabelledImages,
    class_names: Sequence[str] | Mapping[str, str] | str | Path | None,
    renames: Mapping[str, str],
    source: Path,
) -> list[str]:
    """Name the classes as prompts write them."""
    if isinstance(class_names, (str, Path)):
        class_names = json.loads(Path(class_names).read_text(encoding="utf-8"))
    if isinstance(class_names, Sequence):
        if found.names is not None and len(class_names) != len(found.names):
            raise ValueError(f"{len(class_names)} class_names for the {len(found.names)} classes of {source}")
        return list(class_names)
    if found.names is None:
        raise ValueError(f"{source}: labels are numbers; give class_names in their order")
    if class_names is None:
        class_names = {name: renames.get(name, _spoken(name)) for name in found.names}
        if numbered := sorted(name for name, spoken in class_names.items() if re.fullmatch(r"n?\d+", spoken)):
            raise ValueError(
                f"{source}: {len(numbered)} classes have no name but a number, such as {numbered[0]}; "
                "give class_names for the prompts"
            )
    if unnamed := [name for name in found.names if name not in class_names]:
        raise ValueError(f"class_names has no name for {len(unnamed)} classes of {source}, such as {unnamed[0]!r}")
    return [class_names[name] for name in found.names]


def _spoken(name: str) -> str:
    """Write the name of a class as words; SUN397 sorts its folders under single letters."""
    return " ".join(part for part in name.split("/") if len(part) > 1 or part == name).replace("_", " ")
