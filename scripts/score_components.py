"""What `compalign score` does for ComAlign alone: finding the regions of the image, and the tables of matches."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from PIL import Image

from ..data.components import CaptionComponents, ImageComponents
from ..data.components.boxes import sound
from ..data.components.detection import Finder
from ..data.components.files import FILE_NAME, describe
from ..data.sources import read_source
from ..evaluation.matches import CaptionMatches, compared
from ..modeling import ComAlignConfig
from .score_picture import missing


def detect_regions(
    name: str, image: Image.Image, captions: list[CaptionComponents], config: ComAlignConfig, finder: Finder | None
) -> ImageComponents:
    """Return the regions that something finds in an image, as many as the model has slots for; none without it."""
    phrases = list(dict.fromkeys(phrase for caption in captions for phrase in caption.entities))
    found = [] if finder is None else finder(name, image, phrases)
    return describe(name, image.size, found, captions, config.entities, config.relations)


def read_regions(path: str, image: str, size: tuple[int, int]) -> ImageComponents:
    """Return the row of an image in a components file: the one whose name the path of the image ends in.

    Args:
        path (`str`): A .jsonl file of rows, or the folder that holds components.jsonl.
        image (`str`): Path of the image.
        size (`tuple[int, int]`): Its width and height in pixels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no row of this image, more than one, or one of another size.
    """
    file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    parts = Path(image).absolute().parts
    rows = [
        record
        for record in read_source(file, None, ()).records
        if isinstance(record, dict) and (name := PurePath(str(record.get("image"))).parts) == parts[-len(name) :]
    ]
    if len(rows) != 1:
        raise ValueError(f"{file} has {len(rows)} rows whose image is the end of {Path(image).absolute()}; accepted: 1")
    row, problems = sound(ImageComponents.from_record(rows[0]))
    if (row.width, row.height) != size:
        raise ValueError(f"{file} has {row.image} of {row.width} x {row.height} pixels, now {size[0]} x {size[1]}")
    return row._replace(refused=[str(problem) for problem in problems])


def left_out(row: ImageComponents, captions: Sequence[CaptionComponents], config: ComAlignConfig) -> Iterator[str]:
    """Yield a line for everything that the model does not get to see."""
    yield from (f"left out: {problem}" for problem in row.refused)
    for name, slots in (("entities", config.entities), ("relations", config.relations)):
        for what, parts in ((row.image, row), *((repr(caption.text), caption) for caption in captions)):
            if (found := len(getattr(parts, name))) > slots:
                yield f"left out: {found - slots} of {found} {name} of {what}, the model has {slots} slots"


def lines_of(scores: Sequence[CaptionMatches], row: ImageComponents) -> Iterator[str]:
    """Yield the lines of two tables: captions with their scores, and their phrases with the regions most like them."""
    yield "   score  global  entities  relations  caption"
    for rank, (text, score, whole, entities, relations) in enumerate(scores):
        numbers = f"{score:7.3f} {whole:7.3f} {_number(entities.similarity):>9} {_number(relations.similarity):>10}"
        yield f"{' ' if rank else '*'}{numbers}  {text}"
    width = max((len(match.phrase) for score in scores for match in compared(score)), default=0)
    for score in filter(compared, scores):
        yield f"\n{score.text}"
        for match in compared(score):
            named = " + ".join(f"{index} {row.entities[index].label}" for index in match.entities)
            yield f"  {_number(match.cosine):>6}  {match.phrase:{width}}  {named or missing(match)}"


def _number(value: float | None) -> str:
    """A similarity, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"
