"""Components files: one line of JSON per image. An interrupted run that writes them can go on."""

import hashlib
import json
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..provenance import versions
from ..readers.bad_rows import NAMED_IN_LOG, BadRow, BadRows, RowProblem, RowReport, check_on_bad_row
from ..readers.hygiene import check_record
from ..readers.row_images import find_files, image_folder
from ..readers.sources import read_source
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
        image (`str`): Name of the image.
        size (`tuple[int, int]`): Width and height in pixels.
        found (`Sequence[Entity]`): The entities that a detector found, with any boxes.
        captions (`list[CaptionComponents]`): Captions of the image.
        most_entities, most_relations (`int`): Number of each to keep, >= 0.

    Returns:
        `ImageComponents`: The entities by descending score, ties in the order found, with boxes clipped to the image.
        `refused` lists the boxes that are not finite or have no area inside the image, with the reason.
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
    """Write components.jsonl and, beside it, components.json with the settings, versions and counts.

    A rerun removes a half-written last line and skips the images that are done, so that the file becomes the same as
    from one run.

    Args:
        captions (`Mapping[str, Sequence[str]]`): The captions of each image, by its name.
        describe_image (`Callable[[str, Sequence[str]], ImageComponents]`): Makes the row of an image from its name and
            captions, or raises a `RowProblem`.
        folder (`str` or `Path`): Folder of the two files.
        settings (`dict`): Everything that the rows depend on, as JSON values.
        on_bad_row (`str`): "skip" leaves out images that cannot be used, counts them and names them. "raise" stops at
            the first one, or at the first refused box.
        report (`RowReport`, *optional*): A new report to fill with the images left out in this run.

    Returns:
        `dict`: Counts over the whole file; see [`count`].

    Raises:
        ValueError: If the folder holds components with other settings or captions; if no image is left; at the first
            bad image or box if `on_bad_row` is "raise".
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
                f"{path} has the captions {texts} for {name}, now {list(captions[name])}; use a new folder"
            )
    bad_rows = BadRows("images", range(1, len(captions) + 1), on_bad_row, report)
    with path.open("a", encoding="utf-8") as file:
        for index, (name, texts) in enumerate(tqdm(captions.items(), desc="components", unit="image")):
            if name in rows:
                continue
            try:
                row = describe_image(name, texts)
                if row.refused and on_bad_row == "raise":
                    raise RowProblem("refused box", f"{name}: {row.refused[0]}")
            except RowProblem as problem:
                bad_rows.add(index, problem)
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
    """Count the components of rows, and log the names of the images and captions without any.

    Args:
        rows (`Sequence[ImageComponents]`): The rows of a whole file.

    Returns:
        `dict`: `images` and `captions`; `entities` and `relations` of the images; `phrases` and `statements`, which are
        the entities and relations of the captions; `images_without_entities`, `images_without_relations`,
        `captions_without_entities` and `captions_without_relations`; `refused_boxes`, a count per reason.
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
        path (`str` or `Path`): A .jsonl file of rows, or the folder of a components.jsonl.
        images (`str` or `Path`, *optional*): Folder that image names start from and must not leave. Default: the
            folder of the file.
        on_bad_row (`str`): "skip" leaves bad rows out, counts them, and names the first ten in a warning. "raise" stops
            at the first. A row is bad if its image is missing, unreadable or outside the folder, a value has the wrong
            type, a box is not four numbers, or its image has an earlier row. A box that is not finite or has no area
            inside its image is left out with its relations and noted in the report, or raised.
        report (`RowReport`, *optional*): A new report to fill.

    Returns:
        `list[dict]`: Rows of `image` (`str`, an absolute path), `image_id` (`str`, its name in the file), `width` and
        `height` (pixels), `entities` (`list[Entity]`), `relations` (`list[Relation]`) and `captions`
        (`list[CaptionComponents]`).

    Raises:
        FileNotFoundError: If `path` or `images` does not exist.
        ValueError: If the file is damaged (the message names the line); if no row can be used; at the first bad row or
            box if `on_bad_row` is "raise".
    """
    check_on_bad_row(on_bad_row)
    report = RowReport() if report is None else report
    path = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    source = read_source(path, None, ())
    bad_rows = BadRows(source.name, source.numbers, on_bad_row, report)
    rows: dict[int, ImageComponents] = {}
    names: set[str] = set()
    for index, record in enumerate(source.records):
        try:
            row, refused = sound(ImageComponents.from_record(check_record(record)))
            if row.image in names:
                raise RowProblem("second row of an image", row.image)
        except RowProblem as problem:
            bad_rows.add(index, problem)
            continue
        for box_problem in refused:
            if on_bad_row == "raise":
                bad_rows.add(index, box_problem)
            logger.warning("%s", BadRow(source.name, source.numbers[index], box_problem))
            report.notes[box_problem.reason] += 1
        names.add(row.image)
        rows[index] = row

    paths, missing = find_files(names, image_folder(source, images))
    rows = bad_rows.remove({index: missing[row.image] for index, row in rows.items() if row.image in missing}, rows)
    report.kept = len(rows)
    report.finish(source.name)
    return [
        {
            "image": paths[row.image],
            "image_id": row.image,
            "width": row.width,
            "height": row.height,
            "entities": row.entities,
            "relations": row.relations,
            "captions": row.captions,
        }
        for row in rows.values()
    ]


def read_row(folder: str | Path, number: int) -> ImageComponents:
    """Read one row of the components file in a folder.

    Args:
        folder (`str` or `Path`): The folder of components.jsonl.
        number (`int`): Row number, from 1.

    Raises:
        ValueError: If there is no such row.
    """
    rows = _written(Path(folder) / FILE_NAME)
    if not 1 <= number <= len(rows):
        raise ValueError(f"row {number} is not in {Path(folder) / FILE_NAME}; accepted: 1 to {len(rows)}")
    return rows[number - 1]


def _begin(path: Path, header: Path, settings: dict[str, Any]) -> None:
    """Write the header of a new file, or check that an existing one has the same settings and drop half a last line."""
    if not header.exists():
        if path.exists():
            raise ValueError(f"{path} has no {HEADER_NAME} beside it, so its settings are unknown; use a new folder")
        _write_header(header, settings, None)
        return
    made, now = (_flat(part) for part in (json.loads(header.read_text(encoding="utf-8"))["settings"], settings))
    differing = [
        f"{key}={made.get(key)!r}, now {now.get(key)!r}" for key in made | now if made.get(key) != now.get(key)
    ]
    if differing:
        raise ValueError(f"{path} was made with {'; '.join(differing)}; use a new folder or the same settings")
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _written(path: Path) -> list[ImageComponents]:
    """Read the rows of a file, all of which must be sound."""
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
    """Write the settings, versions and counts, completely or not at all."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    content = {
        "settings": settings,
        "settings_sha256": digest,
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "counts": counts,
    }
    part = header.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, header)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _reason(problem: str) -> str:
    """Return the reason by which a refused box is counted."""
    return problem.partition(" (")[0]
