"""Images, opened safely: three formats, the size checked before decoding, and names that cannot leave their folder."""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Pillow reads dozens of formats. Fewer decoders to choose from leave a malicious file fewer ways to do harm.
FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 128_000_000

# Found among the last bytes of a complete file. A WEBP states its length up front, and Pillow refuses a shorter one.
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND", "WEBP": b""}
_LAST_BYTES = 64
# Errors that Pillow raised for files damaged at random.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

EncodedImage = str | Path | bytes | BinaryIO | dict


class UnreadableImage(ValueError):
    """An image that cannot be used. The message names the file and the cause."""


class ImageCrop(NamedTuple):
    """A box of an image, used as an image of its own.

    Args:
        image (path, `bytes`, binary file, `dict` or `PIL.Image.Image`): The whole image, as for `open_image`.
        box (`tuple[float, float, float, float]`): Left, top, right and bottom in pixels of the upright image, the far
            edges excluded. Parts outside the image are cut off; every pixel that the box touches is kept.
    """

    image: EncodedImage | Image.Image
    box: tuple[float, float, float, float]


ImageSource = EncodedImage | Image.Image | ImageCrop


def open_image(source: ImageSource, root: str | Path | None = None) -> Image.Image:
    """Open an image as RGB, turned upright by its EXIF orientation, with transparent parts on white.

    Args:
        source (path, `bytes`, binary file, `dict`, `PIL.Image.Image` or `ImageCrop`): The image. A `dict` has the form
            `{"bytes": ..., "path": ...}` that `datasets.Image(decode=False)` gives; the path is used if bytes are None.
        root (`str` or `Path`, *optional*): Folder that a path starts from and must not leave.

    Returns:
        `PIL.Image.Image`: The decoded image, of mode "RGB".

    Raises:
        UnreadableImage: If the file is missing, damaged, outside `root`, larger than `MAX_PIXELS`, or not a JPEG, PNG
            or WEBP; if a box lies outside its image.
    """
    if isinstance(source, ImageCrop):
        return crop_image(open_image(source.image, root), source.box, image_name(source.image))
    with _named_errors(source) as name:
        if isinstance(source, Image.Image):
            return _decoded(source, name)
        with _stream(source, root) as stream:
            return _decoded(Image.open(stream, formats=FORMATS), name)


def check_image(source: EncodedImage, root: str | Path | None = None) -> tuple[int, int]:
    """Check an image by its header and its last bytes, so that a broken file is found before training starts.

    A file without the usual ending may be sound, since some cameras append data. It is decoded to find out. Damage in
    the middle of a file is not found.

    Args:
        source (path, `bytes`, binary file or `dict`): The image, as for `open_image`.
        root (`str` or `Path`, *optional*): Folder that a path starts from and must not leave.

    Returns:
        `tuple[int, int]`: Width and height in pixels as stored, before EXIF orientation.

    Raises:
        UnreadableImage: As in `open_image`.
    """
    with _named_errors(source) as name, _stream(source, root) as stream:
        image = Image.open(stream, formats=FORMATS)
        _refuse_bomb(image, name)
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES))
        if _ENDINGS[str(image.format)] not in stream.read():
            stream.seek(0)
            _decoded(Image.open(stream, formats=FORMATS), name)
        return image.size


def crop_image(image: Image.Image, box: tuple[float, float, float, float], name: str) -> Image.Image:
    """Cut a box out of an opened image.

    Args:
        image (`PIL.Image.Image`): An image from `open_image`.
        box (`tuple[float, float, float, float]`): As in `ImageCrop`.
        name (`str`): Name of the image in the error.

    Returns:
        `PIL.Image.Image`: The part of the box inside the image, with fractions rounded outward.

    Raises:
        UnreadableImage: If no positive area is left inside, or the box is not four finite numbers.
    """
    try:
        left, top, right, bottom = box
        inside = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    except (TypeError, ValueError) as error:
        raise UnreadableImage(f"{name}: box {box!r} is not left, top, right, bottom") from error
    # `not (a < b)` refuses a NaN too; `a >= b` would not.
    if not (math.isfinite(sum(box)) and inside[0] < inside[2] and inside[1] < inside[3]):
        raise UnreadableImage(f"{name}: box {tuple(box)} holds none of the {image.width} x {image.height} pixels")
    return image.crop((math.floor(inside[0]), math.floor(inside[1]), math.ceil(inside[2]), math.ceil(inside[3])))


def image_name(source: ImageSource) -> str:
    """Return the name of an image in messages: its path, or "image in memory"."""
    return _path(source) or "image in memory"


def file_name(source: ImageSource) -> str | None:
    """Return the name of an image's file without its folder, or `None` for an image in memory."""
    path = _path(source)
    return Path(path).name if path else None


def resolve_inside(root: str | Path, name: str | Path) -> Path:
    """Resolve a file name found in data, which must not leave the folder it belongs to.

    Args:
        root (`str` or `Path`): The folder.
        name (`str` or `Path`): A name relative to `root`, or absolute and inside it.

    Returns:
        `Path`: The absolute path, with symbolic links followed. The file need not exist.

    Raises:
        ValueError: If `..`, an absolute name or a symbolic link leads outside `root`.
    """
    folder = os.path.realpath(root)
    path = os.path.realpath(os.path.join(folder, name))
    if os.path.commonpath([folder, path]) != folder:
        raise ValueError(f"{str(name)!r} leads outside the folder {folder}")
    return Path(path)


def _path(source: ImageSource) -> str | None:
    """Return the path of an image, or of the whole image of a crop; `None` for an image in memory."""
    if isinstance(source, ImageCrop):
        return _path(source.image)
    held = source.get("path") if isinstance(source, dict) else source
    return str(held) if isinstance(held, (str, Path)) else None


@contextmanager
def _named_errors(source: EncodedImage | Image.Image) -> Iterator[str]:
    """Yield the name of an image, and turn errors of Pillow into an `UnreadableImage` with that name."""
    name = image_name(source)
    try:
        yield name
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name}: not an image in one of the formats {', '.join(FORMATS)}") from error
    except _PILLOW_ERRORS as error:
        raise UnreadableImage(f"{name}: {error}") from error


def _stream(source: Any, root: str | Path | None) -> AbstractContextManager[BinaryIO]:
    """Open the bytes of an image. An open file stays open."""
    if isinstance(source, dict):
        source = source["path"] if source.get("bytes") is None else source["bytes"]
    if source is None:
        raise UnreadableImage("the image has neither bytes nor a path")
    if isinstance(source, bytes):
        return BytesIO(source)
    if isinstance(source, (str, Path)):
        return open(source if root is None else resolve_inside(root, source), "rb")
    return nullcontext(source)


def _refuse_bomb(image: Image.Image, name: str) -> None:
    """Refuse an image that is too large to decode. Only its header has been read."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise UnreadableImage(f"{name}: {image.width} x {image.height} = {pixels} pixels, more than {MAX_PIXELS}")


def _decoded(image: Image.Image, name: str) -> Image.Image:
    """Decode an image, turn it upright and convert it to RGB."""
    _refuse_bomb(image, name)
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey values at 255 instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
