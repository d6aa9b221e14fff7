"""Contamination: which images and captions of a benchmark occur in training data."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..data.images import image_name
from ..data.readers.bad_rows import RowProblem
from ..data.readers.caption_formats import USED_COLUMNS, check_row, choose_layout
from ..data.readers.hygiene import check_record, normalised
from ..data.readers.sources import read_source
from .benchmarks import Benchmark

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset, DatasetDict

# COCO_val2014_000000000285.jpg, 000000000285.jpg and image_id 285 are the same photograph.
_COCO_FILE = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.jpg")


@dataclass(frozen=True)
class Overlap:
    """Images and captions that a benchmark shares with training data.

    Args:
        images (`list[str]`): Images of the benchmark that occur in the training data, by their names in the benchmark.
        captions (`list[str]`): Texts of the benchmark that occur in the training data, as written in the benchmark.
        benchmark_images, benchmark_captions (`int`): Numbers of distinct images and captions of the benchmark.
        training_images, training_captions (`int`): Numbers of distinct images and captions of the training data.
        unread (`int`): Rows of the training data that could not be read.
    """

    images: list[str]
    captions: list[str]
    benchmark_images: int
    benchmark_captions: int
    training_images: int
    training_captions: int
    unread: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.images)} of {self.benchmark_images} images and {len(self.captions)} of "
            f"{self.benchmark_captions} captions of the benchmark are among {self.training_images} images and "
            f"{self.training_captions} captions of training"
        ) + (f"; {self.unread} rows of training could not be read" if self.unread else "")


def find_overlap(
    training_images: Iterable[str | int],
    training_captions: Iterable[str],
    benchmark_images: Iterable[str | int],
    benchmark_captions: Iterable[str],
    unread: int = 0,
) -> Overlap:
    """Find the images and captions that a benchmark shares with training data.

    Images of COCO are the same if their numbers are equal, in 2014 and in 2017; other images are the same if their file
    names are equal, with or without folders. Texts are the same if they differ only in case, spaces and final
    punctuation.

    Args:
        training_images, benchmark_images (iterable of `str` or `int`): File names, with or without folders, or numbers.
        training_captions, benchmark_captions (iterable of `str`): Captions, with the false captions of the benchmark.
        unread (`int`): Rows of the training data that could not be read, for `Overlap`.

    Returns:
        `Overlap`
    """
    trained_images = {image_identity(image) for image in training_images}
    trained_captions = {normalised(caption) for caption in training_captions}
    images = {image_identity(image): str(image) for image in benchmark_images}
    captions = {normalised(caption): caption for caption in benchmark_captions}
    return Overlap(
        images=sorted(images[identity] for identity in images.keys() & trained_images),
        captions=sorted(captions[words] for words in captions.keys() & trained_captions),
        benchmark_images=len(images),
        benchmark_captions=len(captions),
        training_images=len(trained_images),
        training_captions=len(trained_captions),
        unread=unread,
    )


def check_contamination(
    training: "str | Path | Dataset | DatasetDict", benchmark: Benchmark, split: str | None = None
) -> Overlap:
    """Check a benchmark against training data, whose image files are not needed.

    Example:

    ```python
    print(check_contamination("negclip_train.tsv", SugarCrepe("sugar-crepe/data", "coco/val2017")))
    ```

    Args:
        training (path, `Dataset` or `DatasetDict`): Anything that `compalign.data.load_captions` reads.
        benchmark (`Benchmark`): The benchmark, with the images that were found.
        split (`str`, *optional*): Split to read if the training data have several.

    Returns:
        `Overlap`: of the benchmark's images, by file name, and of all its texts, false captions included.

    Raises:
        FileNotFoundError: If there are no training data of that name.
        ValueError: If the format of the training data is unknown.
    """
    source = read_source(training, split, USED_COLUMNS)
    layout = choose_layout(source)
    rows, unread = [], 0
    for record in source.records:
        try:
            rows.append(check_row(layout.read(check_record(record))))
        except RowProblem:
            unread += 1
    trained = [row.image_id if row.image is None else row.image for row in rows]
    texts = [prompt for text in benchmark.texts for prompt in ([text] if isinstance(text, str) else text)]
    return find_overlap(
        training_images=[image for image in trained if image is not None],
        training_captions=[row.caption for row in rows],
        benchmark_images=[PurePath(image_name(image)).name for image in benchmark.images],
        benchmark_captions=texts,
        unread=unread,
    )


def image_identity(image: str | int) -> int | str:
    """Reduce the names of an image to one identity.

    Args:
        image (`str` or `int`): A file name, with or without folders, or a number.

    Returns:
        `int` or `str`: the number, for a file name of COCO or a bare number; otherwise the file name without folders.
    """
    name = PurePath(str(image)).name
    if coco := _COCO_FILE.fullmatch(name):
        return int(coco[1])
    return int(name) if name.isdecimal() else name
