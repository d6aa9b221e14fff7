"""Small copies of images, as data URIs that a page carries with it."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ...data.images import ImageCrop, UnreadableImage, file_name, image_name, open_image

LONGEST = 320  # pixels of the longer side of a photograph's copy
DRAWN = 160  # an image up to this size is kept pixel by pixel and enlarged without smoothing
QUALITY = 78


class Thumbnail(NamedTuple):
    """A small copy of an image.

    Args:
        address (`str`): The copy as a data URI; empty if the image cannot be read.
        width (`int`): In pixels; 0 if the image cannot be read.
        height (`int`): In pixels; 0 if the image cannot be read.
        drawn (`bool`): Whether it is so small that its pixels are shown as squares.
        error (`str`): Why the image cannot be read; empty otherwise.
        file (`str`, *optional*): Name of the image's file.
    """

    address: str
    width: int
    height: int
    drawn: bool
    error: str
    file: str | None


def thumbnail(source: Any) -> Thumbnail:
    """Make a small copy of an image, turned upright: PNG for small images, WebP for larger ones.

    Args:
        source (path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): The image.

    Returns:
        `Thumbnail`: with the cause as its `error` if the image cannot be read.
    """
    file = file_name(source)
    try:
        image = open_image(source)
    except UnreadableImage as error:
        # A page may be passed on: it names the file, not the folders of whoever made it.
        return Thumbnail("", 0, 0, False, str(error).replace(image_name(source), file or "image in memory"), file)
    drawn = max(image.size) <= DRAWN
    held = BytesIO()
    if drawn:
        image.save(held, "PNG", optimize=True)
    else:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        image.save(held, "WEBP", quality=QUALITY, method=4)
    kind = "png" if drawn else "webp"
    address = f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
    return Thumbnail(address, *image.size, drawn, "", file)


class Thumbnails:
    """The copies of a page, each image once.

    Attributes:
        made (`list[Thumbnail]`): The copies, in the order in which they were first asked for.
    """

    def __init__(self) -> None:
        self.made: list[Thumbnail] = []
        self._places: dict[Any, int] = {}

    def place(self, source: Any) -> int:
        """Return the position in `made` of the copy of an image, which must stay alive as long as this object."""
        key = _key(source)
        if key not in self._places:
            self._places[key] = len(self.made)
            self.made.append(thumbnail(source))
        return self._places[key]


def _key(source: Any) -> Any:
    """Return what is equal for the same image: the path, the box in it, or the object itself."""
    if isinstance(source, ImageCrop):
        return _key(source.image), tuple(source.box)
    return str(source) if isinstance(source, (str, Path)) else id(source)
