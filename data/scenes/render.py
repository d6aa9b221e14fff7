"""Drawing of scenes. The anti-aliased mask of each noun is made once per size and reused."""

from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from .glyphs import GLYPHS
from .graph import Scene

RGB = {
    "red": (214, 40, 40),
    "blue": (40, 80, 220),
    "green": (30, 150, 60),
    "yellow": (235, 200, 30),
    "purple": (140, 50, 170),
    "orange": (245, 130, 20),
    "pink": (245, 130, 190),
    "black": (20, 20, 20),
}

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
FONT_SIZE = 320  # pixels; every object is drawn smaller, so a mask is always scaled down


@lru_cache
def _ink(noun: str) -> Image.Image:
    """Return the coverage of a noun's symbol at `FONT_SIZE`, without margins."""
    font = ImageFont.truetype(str(FONT), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    page = Image.new("L", (3 * FONT_SIZE, 3 * FONT_SIZE))
    ImageDraw.Draw(page).text((FONT_SIZE, FONT_SIZE), GLYPHS[noun].character, font=font, fill=255)
    return page.crop(page.getbbox())


@lru_cache(maxsize=8192)
def _mask(noun: str, width: int, height: int) -> Image.Image:
    """Return the coverage of a noun's symbol, in [0, 255], scaled to fill a box."""
    return _ink(noun).resize((width, height), Image.Resampling.BOX)


def render(scene: Scene, image_size: int = 64) -> Image.Image:
    """Draw a scene, anti-aliased.

    Args:
        scene (`Scene`): The scene.
        image_size (`int`): Side of the square image in pixels.

    Returns:
        `PIL.Image.Image`: RGB image of `image_size` x `image_size` pixels. Each object fills its box of
        `scene.boxes(image_size)`.
    """
    image = Image.new("RGB", (image_size, image_size), scene.background)
    for item in scene.objects:
        box = item.box(image_size)
        colour = tuple(
            min(max(value + shift, 0), 255) for value, shift in zip(RGB[item.colour], item.tint, strict=True)
        )
        image.paste(colour, box, _mask(item.noun, box[2] - box[0], box[3] - box[1]))
    return image
