"""Coverage: which listed items have their image on disk, and a note about the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.images import resolve_inside

NAMED = 5  # missing images that a note names


@dataclass(frozen=True)
class FoundImages:
    """Result of `find_images`.

    Args:
        paths (`list[Path | None]`): The image of each listed item; `None` where it is missing.
        missing (`list[str]`): Names of the missing images, sorted.
        notes (`list[str]`): One note that counts the missing images, or no note.
    """

    paths: list[Path | None]
    missing: list[str]
    notes: list[str]


def find_images(listed: Sequence[tuple[str | Path, str]], minimum_coverage: float = 1.0) -> FoundImages:
    """Find the image of every listed item, and refuse if too many are missing.

    Args:
        listed (sequence of folder and `str`): For each item, the folder of its image, which need not exist, and the
            benchmark's name of the image. Repeated images are looked up once.
        minimum_coverage (`float`): Smallest accepted share of items whose image is found, in [0, 1].

    Returns:
        `FoundImages`

    Raises:
        ValueError: If a name leads outside its folder, or fewer items than `minimum_coverage` have their image.
    """
    if not 0 <= minimum_coverage <= 1:
        raise ValueError(f"minimum_coverage {minimum_coverage}; must be in [0, 1]")
    places = list(dict.fromkeys(listed))
    found = {place: path for place in places if (path := resolve_inside(*place)).is_file()}
    paths = [found.get(place) for place in listed]
    missing = sorted(place[1] for place in places if place not in found)
    if not missing:
        return FoundImages(paths, missing, [])
    lost = sum(path is None for path in paths)
    note = (
        f"{lost} of {len(listed)} items left out: {len(missing)} of {len(places)} images are missing, such as "
        f"{', '.join(missing[:NAMED])}"
    )
    if len(listed) - lost < minimum_coverage * len(listed):
        folders = ", ".join(dict.fromkeys(str(folder) for folder, _ in places))
        raise ValueError(f"{folders}: {note}; minimum_coverage is {minimum_coverage}")
    return FoundImages(paths, missing, [note])
