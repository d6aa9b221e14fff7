"""Contamination: which images and captions of a benchmark stand in a training file."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..data.bad_rows import RowProblem
from ..data.caption_formats import COCO_2014_PATTERN, USED_COLUMNS, check_row, choose_layout, row_reader
from ..data.caption_hygiene import normalised
from ..data.images import image_name
from ..data.row_reading import read_rows
from ..data.sources import read_source
from .benchmarks import Benchmark

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset, DatasetDict

# COCO_val2014_000000000285.jpg and 000000000285.jpg are one photograph, and so is image_id 285.
_COCO_FILE = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\.jpg")


@dataclass(frozen=True)
class Overlap:
    """What a benchmark shares with training data.

    Args:
        images (`list[str]`): Images of the benchmark, by the names it gives them, that training sees.
        captions (`list[str]`): Texts of the benchmark that training sees, as they stand there.
        benchmark_images, benchmark_captions (`int`): How many distinct ones the benchmark has.
        training_images, training_captions (`int`): How many distinct ones training has.
        unread (`int`): Rows of the training file that could not be read.
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
    """Find what a benchmark shares with training data.

    Images are the same if their COCO number is, which is the same in 2014 and 2017 and with or without a folder; other
    images if their file names are. Texts are the same apart from case, spaces and final punctuation.

    Args:
        training_images, benchmark_images (iterable of `str` or `int`): File names, with or without folders, or numbers.
        training_captions, benchmark_captions (iterable of `str`): Captions. The benchmark's false ones belong here too.
        unread (`int`): Passed on.

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
    """Check a benchmark against training data; the images of the training data need not be there.

    Example:

    ```python
    print(check_contamination("negclip_train.tsv", SugarCrepe("sugar-crepe/data", "coco/val2017")))
    ```

    Args:
        training (path, `Dataset` or `DatasetDict`): Anything that `compalign.data.load_captions` reads.
        benchmark (`Benchmark`): The benchmark, with the images that were found.
        split (`str`, *optional*): Split to take where the training data have several.

    Returns:
        `Overlap`: over the benchmark's images, by file name, and all its texts, false captions included.

    Raises:
        FileNotFoundError: If nothing is found under that name.
        ValueError: If the training data are of no known format.
    """
    source = read_source(training, split, USED_COLUMNS)
    read, _ = row_reader(source, choose_layout(source), None, None, COCO_2014_PATTERN)
    bad: list[RowProblem] = []
    rows = read_rows(source.records, lambda _, record: check_row(read(record)), lambda _, problem: bad.append(problem))
    trained = [row.image_id if row.image is None else row.image for row in rows.values()]
    texts = [prompt for text in benchmark.texts for prompt in ([text] if isinstance(text, str) else text)]
    return find_overlap(
        training_images=[image for image in trained if image is not None],
        training_captions=[row.caption for row in rows.values()],
        benchmark_images=[PurePath(image_name(image)).name for image in benchmark.images],
        benchmark_captions=texts,
        unread=len(bad),
    )


def image_identity(image: str | int) -> int | str:
    """Say which photograph an image is, however it is written.

    Args:
        image (`str` or `int`): A file name, with or without folders, or a number.

    Returns:
        `int` or `str`: the number for a file name of COCO or a bare number, else the file name without folders.
    """
    name = PurePath(str(image)).name
    if coco := _COCO_FILE.fullmatch(name):
        return int(coco[1])
    return int(name) if name.isdecimal() else name
