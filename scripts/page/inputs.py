"""Images and captions of the page's visitors, read within limits; scenes and foils for visitors who bring nothing."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from PIL import Image

from ...data.components import CaptionComponents, Entity
from ...data.images import check_image, open_image
from ...data.negatives import NegativeGenerator
from ...data.scenes import component_row

MOST_BYTES = 10_000_000
MOST_PIXELS = 40_000_000
MOST_CAPTIONS = 8
MOST_CHARACTERS = 300

SCENES = (8, 9, 21, 33)  # seeds of the test split: two and three objects, places, relations, a list
SCENE_SIZE = 256
THUMBNAIL_SIZE = 144  # twice the size at which the page shows it
FOILS = 3


class SceneExample(NamedTuple):
    """A generated scene: its picture, a true caption before false ones, and where its objects are."""

    image: Image.Image
    captions: list[CaptionComponents]
    entities: list[Entity]

    @property
    def text(self) -> str:
        """The captions as visitors write them."""
        return "\n".join(caption.text for caption in self.captions)


def read_image(path: str | None) -> Image.Image:
    """Open an uploaded picture.

    Args:
        path (`str`, *optional*): The uploaded file.

    Returns:
        `PIL.Image.Image` of mode "RGB".

    Raises:
        ValueError: If there is no image; if it is larger than `MOST_BYTES` or `MOST_PIXELS`, in another format than
            JPEG, PNG or WEBP, or damaged.
    """
    if path is None:
        raise ValueError("There is no image yet: drop one, or choose a scene.")
    name, size = Path(path).name, Path(path).stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{name}: {size / 1e6:.1f} MB; accepted: at most {MOST_BYTES / 1e6:.0f} MB")
    # Given by its bytes, a picture is named in errors as the visitor knows it, without the folder of uploads.
    picture = {"bytes": Path(path).read_bytes(), "path": name}
    width, height = check_image(picture)
    if width * height > MOST_PIXELS:
        raise ValueError(f"{name}: {width} x {height} pixels; accepted: at most {MOST_PIXELS:,} pixels")
    return open_image(picture)


def read_captions(text: str | None) -> list[str]:
    """Split what was typed into captions, one per line.

    Args:
        text (`str`, *optional*): The text of the field.

    Returns:
        `list[str]`: 1 to `MOST_CAPTIONS` captions.

    Raises:
        ValueError: If there is no caption or there are more, two are equal, or one is longer than `MOST_CHARACTERS`.
    """
    captions = [" ".join(line.split()) for line in (text or "").splitlines() if line.strip()]
    if not captions:
        raise ValueError("There is no caption yet: type one, or choose a scene.")
    if len(captions) > MOST_CAPTIONS:
        raise ValueError(f"There are {len(captions)} captions; accepted: at most {MOST_CAPTIONS}, one per line")
    for number, caption in enumerate(captions, start=1):
        if (first := captions.index(caption) + 1) < number:
            raise ValueError(f"Caption {number} repeats caption {first}")
        if len(caption) > MOST_CHARACTERS:
            raise ValueError(f"Caption {number} has {len(caption)} characters; accepted: at most {MOST_CHARACTERS}")
    return captions


def add_foils(text: str | None) -> tuple[str, str]:
    """Add false captions made from the first one, as many as there is room for.

    Args:
        text (`str`, *optional*): Captions, as for `read_captions`.

    Returns:
        `tuple[str, str]`: The captions with the foils below, and a sentence that says what was added.

    Raises:
        ValueError: As `read_captions`.
    """
    captions = read_captions(text)
    room = MOST_CAPTIONS - len(captions)
    if not room:
        return "\n".join(captions), f"There are {MOST_CAPTIONS} captions already; delete one to make room."
    (proposed,) = generator().propose(captions[:1])
    foils = [negative for negative in proposed if negative.text not in captions][:room]
    lines = "\n".join([*captions, *(foil.text for foil in foils)])
    if not foils:
        return lines, "The rules make no further foil of the first caption; type one yourself."
    kinds = ", ".join(foil.kind.replace("_", " ") for foil in foils)
    return lines, f"Foils added: {kinds}. Rules made them: read whether each is false of this image."


@cache
def generator() -> NegativeGenerator:
    """Load the rules, once."""
    return NegativeGenerator()


@cache
def scene_examples() -> tuple[SceneExample, ...]:
    """Make the scenes to begin with, once."""
    rows = (component_row(seed, "test", FOILS, SCENE_SIZE) for seed in SCENES)
    return tuple(
        SceneExample(row["image"], [*row["captions"], *row["negative_captions"]], row["entities"]) for row in rows
    )


@cache
def thumbnails() -> tuple[str, ...]:
    """Save small pictures of the scenes to begin with, once, and return their paths."""
    names = [f"scene{number}.png" for number in range(1, len(SCENES) + 1)]
    folder = Path(_thumbnail_folder().name)
    for name, scene in zip(names, scene_examples(), strict=True):
        scene.image.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE)).save(folder / name)
    return tuple(str(folder / name) for name in names)


@cache
def _thumbnail_folder() -> TemporaryDirectory:
    """Make the folder of the thumbnails, which is removed when the process ends."""
    return TemporaryDirectory(prefix="compalign-scenes-")


def scene_entities(image: Image.Image) -> list[Entity] | None:
    """Return the objects of an image that equals one of the scenes in every pixel; None for any other image."""
    pixels = image.tobytes()
    return next((scene.entities for scene in scene_examples() if scene.image.tobytes() == pixels), None)
