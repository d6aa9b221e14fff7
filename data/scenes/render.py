"""Drawing of scenes. The anti-aliased mask of each shape is made once per size and reused."""

import math
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from .graph import Scene

RGB = {
    "red": (221, 38, 38),
    "green": (38, 158, 58),
    "blue": (38, 78, 222),
    "yellow": (247, 203, 12),
    "purple": (128, 38, 170),
    "pink": (250, 122, 186),
    "cyan": (20, 194, 214),
    "black": (26, 26, 28),
}

SUPERSAMPLING = 4
PATTERN_PERIOD = 0.08  # period of stripes and dots in units of the image side: 5 pixels at 64
RIM = 0.014  # width without ink along the outline, in the same units
WHITENING = 0.8  # how far the ink is lightened from the object's colour towards white, in [0, 1]


def _star() -> list[tuple[float, float]]:
    """Return a five-pointed star, not yet fitted to its box."""
    radii = (1.0, 0.42)
    return [(radii[k % 2] * math.sin(math.pi * k / 5), -radii[k % 2] * math.cos(math.pi * k / 5)) for k in range(10)]


def _heart() -> list[tuple[float, float]]:
    """Return the classical heart curve, not yet fitted to its box."""
    angles = [2 * math.pi * k / 48 for k in range(48)]
    return [
        (
            16 * math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
        )
        for t in angles
    ]


def _fitted(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Scale points to fill the unit square, so that an object's box is tight whatever its shape."""
    columns, rows = zip(*points, strict=True)
    return [
        ((x - min(columns)) / (max(columns) - min(columns)), (y - min(rows)) / (max(rows) - min(rows)))
        for x, y in points
    ]


ARM = (0.32, 0.68)
POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "cross": [
        *((ARM[0], 0), (ARM[1], 0), (ARM[1], ARM[0]), (1, ARM[0]), (1, ARM[1]), (ARM[1], ARM[1])),
        *((ARM[1], 1), (ARM[0], 1), (ARM[0], ARM[1]), (0, ARM[1]), (0, ARM[0]), (ARM[0], ARM[0])),
    ],
    "star": _fitted(_star()),
    "heart": _fitted(_heart()),
}


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, side: int) -> None:
    """Fill the shape into a black square of `side` pixels."""
    last = side - 1
    if shape in POLYGONS:
        draw.polygon([(x * last, y * last) for x, y in POLYGONS[shape]], fill=255)
        return
    draw.ellipse((0, 0, last, last), fill=255)
    if shape == "ring":
        hole = 0.26 * side
        draw.ellipse((hole, hole, last - hole, last - hole), fill=0)


def _draw_pattern(draw: ImageDraw.ImageDraw, pattern: str, side: int, period: float) -> None:
    """Fill diagonal stripes, or dots, into a black square of `side` pixels, centred on it."""
    reach = math.ceil(side / period) + 1
    if pattern == "striped":
        # Diagonal: horizontal or vertical stripes would vanish in the arms of a cross.
        step = period * math.sqrt(2)
        for row in range(-reach, reach + 1):
            start, end = side + (row - 0.25) * step, side + (row + 0.25) * step
            draw.polygon([(start, 0), (end, 0), (end - side, side), (start - side, side)], fill=255)
        return
    radius = 0.31 * period
    for row in range(-reach, reach + 1):
        y = side / 2 + row * period
        for column in range(-reach, reach + 1):
            x = side / 2 + (column + row % 2 / 2) * period
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _eroded(mask: Image.Image, rim: int) -> Image.Image:
    """Shrink a mask by `rim` pixels on all sides: a box blur stays saturated only where its whole window is filled."""
    blurred = ImageOps.expand(mask, rim).filter(ImageFilter.BoxBlur(rim))
    return ImageOps.crop(blurred, rim).point([0] * 254 + [255] * 2)


@lru_cache(maxsize=4096)
def _masks(shape: str, pattern: str, side: int, image_size: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the coverage of a shape in its box, and the coverage of its pattern's ink (None if solid)."""
    fine, unit = side * SUPERSAMPLING, image_size * SUPERSAMPLING
    body = Image.new("L", (fine, fine))
    _draw_shape(ImageDraw.Draw(body), shape, fine)
    if pattern == "solid":
        return body.reduce(SUPERSAMPLING), None
    ink = Image.new("L", (fine, fine))
    _draw_pattern(ImageDraw.Draw(ink), pattern, fine, PATTERN_PERIOD * unit)
    ink = ImageChops.multiply(ink, _eroded(body, round(RIM * unit)))
    return body.reduce(SUPERSAMPLING), ink.reduce(SUPERSAMPLING)


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
        body, ink = _masks(item.shape, item.pattern, box[2] - box[0], image_size)
        colour = RGB[item.colour]
        image.paste(colour, box, body)
        if ink is not None:
            image.paste(tuple(round(c + WHITENING * (255 - c)) for c in colour), box, ink)
    return image
