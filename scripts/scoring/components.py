"""The work of `compalign score` for ComAlign: regions of the image, matches of each phrase, and their tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from PIL import Image

from ...data.components import CaptionComponents, Detector, ImageComponents, extract
from ...data.components.boxes import sound
from ...data.components.detection import Finder
from ...data.components.files import FILE_NAME, describe
from ...data.readers.sources import read_source
from ...evaluation.scorers.comalign import encode_components
from ...evaluation.scorers.matches import CaptionMatches, compared, match_captions
from ...modeling import ComAlignConfig, ComAlignModel
from ...modeling.kinds import Kind, default_device, load_model, load_processor, name_of
from .arguments import ScoreArguments
from .kinds import check_kind
from .picture import draw_matches, missing

WEIGHTING = {
    "mean": "the mean of its parts",
    "released": "weighted as in the authors' code, so that it depends on the other captions",
}


def score_comalign(args: ScoreArguments, image: Image.Image, path: Path) -> list[CaptionMatches]:
    """Score by ComAlign, and find the region most like each phrase."""
    model, processor = load_heads(args.model), load_processor(args.model)
    parsed = extract(args.captions)
    if args.components is not None:
        row = read_regions(args.components, args.image, image.size)
    else:
        finder = None if args.detector is None else make_detector(args.detector, args.threshold)
        if finder is None:
            print("no regions: without --detector or --components, captions are compared with the whole image alone")
        row = detect_regions(args.image, image, parsed, model.config, finder)
    for line in left_out(row, parsed, model.config):
        print(line)
    encoded = encode_components(
        model,
        processor,
        [image],
        args.captions,
        regions=lambda _: (row.entities, row.relations),
        phrases=lambda _: parsed,
        progress=False,
    )
    scores = match_captions(model, encoded.output, parsed, row.entities, row.relations)
    scores.sort(key=lambda score: -score.score)
    for line in lines_of(scores, row):
        print(line)
    note = (
        f"{name_of(args.model)}: the score is {WEIGHTING[model.config.score]}; each phrase with the entity most like "
        "it, or the pair (dashed), and their cosine"
    )
    draw_matches(scores, row, image, Path(args.image).name, note, path)
    return scores


def load_heads(path: str) -> ComAlignModel:
    """Load ComAlign's heads with their frozen encoder, on the default device.

    Args:
        path (`str`): Folder or Hub id of the heads, or of an adapter of them, which is merged.

    Raises:
        ValueError: In one sentence, if the heads or their encoder cannot be loaded.
    """
    model = load_model(path, merge_adapter=True).to(default_device())
    try:
        model.backbone.to(default_device())  # loaded on first use
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: its backbone {model.config.backbone} cannot be loaded: {reason}") from error
    return model


def make_detector(path: str, threshold: float | None = None) -> Detector:
    """Load a detector.

    Args:
        path (`str`): Folder or Hub id.
        threshold (`float`, *optional*): Least score of a box, in [0, 1]; see `Detector`.

    Raises:
        ValueError: If there is none, or it is a model of another kind.
    """
    check_kind(path, Kind.DETECTOR)
    return Detector(path, threshold)


def detect_regions(
    name: str, image: Image.Image, captions: list[CaptionComponents], config: ComAlignConfig, finder: Finder | None
) -> ImageComponents:
    """Return the regions that a detector finds in an image, as many as the model has slots for."""
    phrases = list(dict.fromkeys(phrase for caption in captions for phrase in caption.entities))
    found = [] if finder is None else finder(name, image, phrases)
    return describe(name, image.size, found, captions, config.entities, config.relations)


def read_regions(path: str, image: str, size: tuple[int, int]) -> ImageComponents:
    """Return the row of an image in a components file, which is found by the end of the image's path.

    Args:
        path (`str`): A .jsonl file of rows, or the folder that holds components.jsonl.
        image (`str`): Path of the image.
        size (`tuple[int, int]`): Its width and height in pixels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no row of this image, several rows, or a row of another image size.
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
    """Yield a line for everything that the model does not see."""
    yield from (f"left out: {problem}" for problem in row.refused)
    for name, slots in (("entities", config.entities), ("relations", config.relations)):
        for what, parts in ((row.image, row), *((repr(caption.text), caption) for caption in captions)):
            if (found := len(getattr(parts, name))) > slots:
                yield f"left out: {found - slots} of {found} {name} of {what}, the model has {slots} slots"


def lines_of(scores: Sequence[CaptionMatches], row: ImageComponents) -> Iterator[str]:
    """Yield the lines of two tables: captions with scores, and phrases with the region most like each."""
    yield "   score  global  entities  relations  caption"
    for rank, (text, total, whole, entities, relations) in enumerate(scores):
        numbers = f"{total:7.3f} {whole:7.3f} {_number(entities.similarity):>9} {_number(relations.similarity):>10}"
        yield f"{' ' if rank else '*'}{numbers}  {text}"
    width = max((len(match.phrase) for score in scores for match in compared(score)), default=0)
    for score in filter(compared, scores):
        yield f"\n{score.text}"
        for match in compared(score):
            named = " + ".join(f"{index} {row.entities[index].label}" for index in match.entities)
            yield f"  {_number(match.cosine):>6}  {match.phrase:{width}}  {named or missing(match)}"


def _number(value: float | None) -> str:
    """Write a similarity, or a dash where there is nothing to compare."""
    return "-" if value is None else f"{value:.3f}"
