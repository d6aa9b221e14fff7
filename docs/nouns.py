"""Draw docs/images/nouns.png: the nouns of generated scenes as scenes of 64 pixels show them, each with its name.

python docs/nouns.py
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from compalign.data.scenes import COLOURS, NOUNS, Scene, SceneObject, render
from compalign.data.scenes.graph import RADII
from compalign.data.scenes.render import FONT

SIDE, GAP, LINE, COLUMNS = 64, 12, 18, 8
BACKGROUND = (225, 225, 225)


def noun_sheet() -> Image.Image:
    """Draw every noun as a large object in one of the colours, with its name below."""
    width, height = SIDE + GAP, SIDE + LINE + GAP
    sheet = Image.new("RGB", (COLUMNS * width + GAP, -(-len(NOUNS) // COLUMNS) * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(FONT), 12)
    for index, noun in enumerate(NOUNS):
        row, column = divmod(index, COLUMNS)
        left, top = GAP + column * width, GAP + row * height
        colour = COLOURS[(row + column) % len(COLOURS)]
        item = SceneObject(noun, colour, "large", (0.5, 0.5), RADII["large"][1])
        sheet.paste(render(Scene((item,), BACKGROUND, seed=0), SIDE), (left, top))
        draw.text((left + SIDE / 2, top + SIDE + 2), noun, fill="black", font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    noun_sheet().save(Path(__file__).with_name("images") / "nouns.png")
