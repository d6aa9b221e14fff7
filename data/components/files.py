"""Components files: a line of JSON an image, written so that an interrupted run goes on, and read back as rows."""

import hashlib
import json
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..bad_rows import NAMED_IN_LOG, BadRow, RowProblem, RowReport, check_on_bad_row
from ..row_images import find_files, image_folder
from ..row_reading import read_rows
from ..sources import read_source
from .boxes import relation_regions, sound, sound_entities
from .rows import CaptionComponents, Entity, ImageComponents

FILE_NAME = "components.jsonl"
HEADER_NAME = "components.json"
PACKAGES = ("compalign", "transformers", "torch", "textblob", "spacy", "pillow")

logger = logging.getLogger(__name__)


def describe(
    image: str,
    size: tuple[int, int],
    found: Sequence[Entity],
    captions: list[CaptionComponents],
    most_entities: int = 10,
    most_relations: int = 10,
) -> ImageComponents:
    """Make the row of an image: its most confident entities, and the regions of their pairs.

    Args:
        image (`str`): Its name.
        size (`tuple[int, int]`): Width and height in pixels.
        found (sequence of `Entity`): What a detector found, with any boxes.
        captions (`list[CaptionComponents]`): Its captions.
        most_entities, most_relations (`int`): How many of each to keep, >= 0.

    Returns:
        `ImageComponents`: Entities by falling score, equal ones in the order found; boxes clipped to the image. A box
        that is not finite or has no area inside the image is in `refused`, with the reason.
    """
    entities, problems = sound_entities(found, *size)
    best = sorted(entities.values(), key=lambda entity: -entity.score)[:most_entities]
    return ImageComponents(
        image, *size, best, relation_regions(best, most_relations), captions, [str(problem) for problem in problems]
    )


def write_components(
    captions: Mapping[str, Sequence[str]],
    describe_image: Callable[[str, Sequence[str]], ImageComponents],
    folder: str | Path,
    settings: dict[str, Any],
    on_bad_row: str = "skip",
    report: RowReport | None = None,
) -> dict[str, Any]:
    """Write components.jsonl and, beside it, components.json: the settings, the versions and the counts.

    A rerun skips the images that are there, once a half-written last line is removed; the file becomes what one run
    would have written.

    Args:
        captions (mapping of `str` to texts): The captions of each image, by its name.
        describe_image (`Callable`): Makes the row of an image; raises `RowProblem` where it cannot be used.
        folder (`str` or `Path`): Where the two files go.
        settings (`dict`): All that decides what is written, as JSON values.
        on_bad_row (`str`): "skip" leaves images out that cannot be used, counts and names them; "raise" stops at the
            first one, or at the first refused box.
        report (`RowReport`, *optional*): A fresh report to fill with the images left out in this run.

    Returns:
        `dict`: Counts over the whole file; see `count`.

    Raises:
        ValueError: If the folder holds components made with other settings, or of other captions; if no image is left;
            at the first bad image or box if `on_bad_row` is "raise".
    """
    check_on_bad_row(on_bad_row)
    report = RowReport() if report is None else report
    path, header = Path(folder) / FILE_NAME, Path(folder) / HEADER_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    _begin(path, header, settings)
    rows = {row.image: row for row in _written(path)}
    for name, row in rows.items():
        texts = [caption.text for caption in row.captions]
        if name in captions and texts != list(captions[name]):
            raise ValueError(
                f"{path} has the captions {texts} for {name}, now {list(captions[name])}: use a new folder."
            )
    with path.open("a", encoding="utf-8") as file:
        for number, (name, texts) in enumerate(tqdm(captions.items(), desc="components", unit="image"), start=1):
            if name in rows:
                continue
            try:
                row = describe_image(name, texts)
                if row.refused and on_bad_row == "raise":
                    raise RowProblem("refused box", f"{name}: {row.refused[0]}")
            except RowProblem as problem:
                report.reject(BadRow("images", number, problem), on_bad_row)
                continue
            file.write(row.to_json() + "\n")
            file.flush()
            rows[name] = row
    report.kept = len(rows)
    report.finish(str(path))
    counts = count(list(rows.values())) | {"images_left_out": len(report.bad)}
    _write_header(header, settings, counts)
    return counts


def count(rows: Sequence[ImageComponents]) -> dict[str, Any]:
    """Count what rows hold, and log the names of those that lack something.

    Args:
        rows (sequence of `ImageComponents`): A whole file.

    Returns:
        `dict`: `images`, `captions`; `entities` and `relations`, of the images; `phrases` and `statements`, the same of
        the captions; `images_without_entities`, `images_without_relations`, `captions_without_entities`,
        `captions_without_relations`; `refused_boxes`, a count for each reason.
    """
    texts = [(row.image, caption) for row in rows for caption in row.captions]
    lacking = {
        "images_without_entities": [row.image for row in rows if not row.entities],
        "images_without_relations": [row.image for row in rows if not row.relations],
        "captions_without_entities": [f"{image}: {text!r}" for image, (text, nouns, _) in texts if not nouns],
        "captions_without_relations": [f"{image}: {text!r}" for image, (text, _, links) in texts if not links],
        "refused_boxes": [f"{row.image}: {problem}" for row in rows for problem in row.refused],
    }
    for what, names in lacking.items():
        if names:
            first = "".join(f"\n  {name}" for name in names[:NAMED_IN_LOG])
            logger.warning("%d %s, the first:%s", len(names), what.replace("_", " "), first)
    reasons = Counter(_reason(problem) for row in rows for problem in row.refused)
    return {
        "images": len(rows),
        "captions": len(texts),
        "entities": sum(len(row.entities) for row in rows),
        "relations": sum(len(row.relations) for row in rows),
        "phrases": sum(len(caption.entities) for _, caption in texts),
        "statements": sum(len(caption.relations) for _, caption in texts),
        **{what: len(names) for what, names in lacking.items() if what != "refused_boxes"},
        "refused_boxes": dict(reasons.most_common()),
    }


def load_components(
    path: str | Path,
    images: str | Path | None = None,
    on_bad_row: str = "skip",
    report: RowReport | None = None,
) -> list[dict[str, Any]]:
    """Load a components file with its images.

    Args:
        path (`str` or `Path`): A .jsonl file of rows, or the folder that holds components.jsonl.
        images (`str` or `Path`, *optional*): Folder that image names start from and must not leave; by default the
            folder of the file.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them and names the first ten in a warning; "raise" stops
            at the first. Bad are a missing, unreadable or outlying image, a value of the wrong type, a box that is not
            four numbers, and a second row of an image. A box that is not finite or has no area inside its image costs
            only itself and its relations; it is counted in the report's notes, or raised.
        report (`RowReport`, *optional*): A fresh report to fill.

    Returns:
        `list[dict]`: Rows of `image` (`str`, an absolute path), `image_id` (`str`, its name in the file), `width` and
        `height` (pixels), `entities` (`list[Entity]`), `relations` (`list[Relation]`), `captions`
        (`list[CaptionComponents]`).

    Raises:
        FileNotFoundError: If `path` or `images` does not exist.
        ValueError: If the file is damaged, the line named; if no row can be used; at the first bad row or box if
            `on_bad_row` is "raise".
    """
    check_on_bad_row(on_bad_row)
    report = RowReport() if report is None else report
    path = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    source = read_source(path, None, ())
    names: set[str] = set()

    def reject(index: int, problem: RowProblem) -> None:
        report.reject(BadRow(source.name, source.numbers[index], problem), on_bad_row)

    def read(index: int, record: dict[str, Any]) -> ImageComponents:
        row, problems = sound(ImageComponents.from_record(record))
        if row.image in names:
            raise RowProblem("second row of an image", row.image)
        names.add(row.image)
        for problem in problems:
            if on_bad_row == "raise":
                reject(index, problem)
            logger.warning("%s", BadRow(source.name, source.numbers[index], problem))
            report.notes[problem.reason] += 1
        return row

    found = read_rows(source.records, read, reject)
    files = find_files({row.image for row in found.values()}, image_folder(source, images))
    rows = []
    for index, row in found.items():
        place = files[row.image]
        if isinstance(place, RowProblem):
            reject(index, place)
        else:
            parts = row._asdict()
            del parts["refused"]
            rows.append(parts | {"image": place, "image_id": row.image})
    report.kept = len(rows)
    report.finish(source.name)
    return rows


def read_row(folder: str | Path, number: int) -> ImageComponents:
    """Return one row of the components file in a folder; rows count from 1."""
    rows = _written(Path(folder) / FILE_NAME)
    if not 1 <= number <= len(rows):
        raise ValueError(f"row {number} is not in {Path(folder) / FILE_NAME}; accepted: 1 to {len(rows)}")
    return rows[number - 1]


def _begin(path: Path, header: Path, settings: dict[str, Any]) -> None:
    """Check that what is there was made alike, drop half a line at its end, and write the header of a new file."""
    if not header.exists():
        if path.exists():
            raise ValueError(f"{path} is there without its {HEADER_NAME}: what made it is unknown; use a new folder.")
        _write_header(header, settings, None)
        return
    made, now = (_flat(part) for part in (json.loads(header.read_text(encoding="utf-8"))["settings"], settings))
    differing = [
        f"{key}={made.get(key)!r}, now {now.get(key)!r}" for key in made | now if made.get(key) != now.get(key)
    ]
    if differing:
        raise ValueError(f"{path} was made with {'; '.join(differing)}: use a new folder or the same settings.")
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _written(path: Path) -> list[ImageComponents]:
    """The rows of a file, all of which must be sound."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            rows.append(ImageComponents.from_record(json.loads(line)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return rows


def _write_header(header: Path, settings: dict[str, Any], counts: dict[str, Any] | None) -> None:
    """Write what made the file, whole or not at all."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    content = {"settings": settings, "settings_sha256": digest, "versions": versions, "counts": counts}
    part = header.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, header)


def _version(package: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _reason(problem: str) -> str:
    """The reason that a refused box is counted by."""
    return problem.partition(" (")[0]
