"""Scene graphs: objects with attributes, placed so that every spatial relation is clearly true or clearly false."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .glyphs import GLYPHS, NOUNS

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink", "black")
SIZES = ("small", "large")
SPLITS = ("train", "validation", "test")

# Direction of the first object, seen from the second. y grows downwards.
DIRECTIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
RELATIONS = tuple(DIRECTIONS)

# Direction of each side of the image, seen from its middle.
PLACES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}

# One colour per noun and as many nouns per colour, so both stay uniform in the training scenes.
HELD_OUT = frozenset((COLOURS[index % len(COLOURS)], noun) for index, noun in enumerate(NOUNS))

MAX_OBJECTS = 4
NUM_OBJECTS_WEIGHTS = (0.28, 0.40, 0.24, 0.08)

# Half the longer side of an object's box, in units of the image side.
RADII = {"small": (0.125, 0.15), "large": (0.185, 0.21)}
CROWDED_SCALE = 0.85  # four objects need room; a large one still exceeds every small one (0.157 > 0.15)
GAP = 0.02
TINT = 18  # an object's red, green and blue differ from those of its colour by at most this much, of 255
BACKGROUND = (180, 250)  # range of the mean of red, green and blue
BACKGROUND_TINT = 15

# Along each axis two centres are either aligned or well apart, never in between, so no relation is ambiguous.
ALIGNED = 0.05
MARGIN = 0.18
OFF_CENTRE = 0.08  # an object that is nearer to the middle lies at no side

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene: its attributes and its place.

    Args:
        noun (`str`): One of `NOUNS`.
        colour (`str`): One of `COLOURS`.
        size (`str`): One of `SIZES`.
        centre (`tuple[float, float]`): (x, y) in [0, 1], y downwards.
        radius (`float`): Half the longer side of the object's box, in units of the image side.
        tint (`tuple[int, int, int]`): Differences from the red, green and blue of its colour, at most `TINT` each.
    """

    noun: str
    colour: str
    size: str
    centre: tuple[float, float]
    radius: float
    tint: tuple[int, int, int] = (0, 0, 0)

    def box(self, image_size: int) -> PixelBox:
        """Return (left, top, right, bottom) in pixels, the far edges excluded. It is exactly the area drawn."""
        glyph, side = GLYPHS[self.noun], 2 * self.radius * image_size
        width, height = max(1, round(side * glyph.width)), max(1, round(side * glyph.height))
        left = min(max(round(self.centre[0] * image_size - width / 2), 0), image_size - width)
        top = min(max(round(self.centre[1] * image_size - height / 2), 0), image_size - height)
        return left, top, left + width, top + height

    @property
    def phrase(self) -> str:
        """The full noun phrase, such as "a large red cat"."""
        return with_article(f"{self.size} {self.colour} {self.noun}")


def with_article(words: str) -> str:
    """Put the indefinite article before words of this world: "a cat", "an orange cat"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One to four objects on a plain background. Nouns and colours are distinct within a scene.

    Args:
        objects (`tuple[SceneObject, ...]`): The objects, in random order.
        background (`tuple[int, int, int]`): RGB colour, in [0, 255].
        seed (`int`): Seed of the scene, or of the scene that it was edited from.
    """

    objects: tuple[SceneObject, ...]
    background: tuple[int, int, int]
    seed: int

    def boxes(self, image_size: int) -> list[PixelBox]:
        """Return each object's box, (left, top, right, bottom) in pixels, the far edges excluded."""
        return [item.box(image_size) for item in self.objects]

    def relations(self) -> list[tuple[int, str, int]]:
        """Return every true (i, name, j), read as "object i is name object j". Both directions of a pair are listed."""
        indices = range(len(self.objects))
        return [
            (i, name, j)
            for i in indices
            for j in indices
            if i != j
            for name in RELATIONS
            if related(self.objects[i], name, self.objects[j])
        ]

    def entities(self, image_size: int) -> list[tuple[str, PixelBox]]:
        """Return each object's full noun phrase with its box in pixels."""
        return [(item.phrase, item.box(image_size)) for item in self.objects]

    @property
    def held_out(self) -> bool:
        """Whether the scene contains a colour-noun combination that training never shows."""
        return any((item.colour, item.noun) in HELD_OUT for item in self.objects)


def related(first: SceneObject, name: str, second: SceneObject) -> bool:
    """Return whether `first` lies in the direction `name` of `second`, by at least `MARGIN` between the centres."""
    along_x, along_y = DIRECTIONS[name]
    distance_x = first.centre[0] - second.centre[0]
    distance_y = first.centre[1] - second.centre[1]
    return along_x * distance_x + along_y * distance_y >= MARGIN


def located(item: SceneObject, place: str, off_centre: float = OFF_CENTRE) -> bool:
    """Return whether the object's centre lies towards a side of the image, at least `off_centre` from the middle."""
    along_x, along_y = PLACES[place]
    return along_x * (item.centre[0] - 0.5) + along_y * (item.centre[1] - 0.5) >= off_centre


def radius_range(size: str, num_objects: int) -> tuple[float, float]:
    """Return the smallest and the largest radius of an object of this size, in a scene of `num_objects` objects."""
    scale = CROWDED_SCALE if num_objects == MAX_OBJECTS else 1.0
    low, high = RADII[size]
    return scale * low, scale * high


def clearly_apart(first: tuple[float, float], second: tuple[float, float], reach: float) -> bool:
    """Return whether two centres leave room for radii of sum `reach`, and are aligned or well apart on each axis."""
    distance_x, distance_y = abs(first[0] - second[0]), abs(first[1] - second[1])
    return (
        max(distance_x, distance_y) >= reach + GAP
        and not ALIGNED < distance_x < MARGIN
        and not ALIGNED < distance_y < MARGIN
    )


def _centres(radii: Sequence[float], rng: random.Random) -> list[tuple[float, float]]:
    """Draw centres inside the image, clearly apart from each other."""
    while True:
        centres: list[tuple[float, float]] = []
        for index, radius in enumerate(radii):
            free = 1 - 2 * radius
            for _ in range(12):
                centre = radius + free * rng.random(), radius + free * rng.random()
                if all(clearly_apart(centre, centres[k], radius + radii[k]) for k in range(index)):
                    centres.append(centre)
                    break
            else:
                break
        if len(centres) == len(radii):
            return centres


def place_objects(pairs: Sequence[tuple[str, str]], rng: random.Random, seed: int) -> Scene:
    """Give each (colour, noun) pair a size, a tint and a place.

    Args:
        pairs (`Sequence[tuple[str, str]]`): One (colour, noun) per object, with distinct colours and nouns.
        rng (`random.Random`): Random generator, advanced in place.
        seed (`int`): Seed to record in the scene.

    Returns:
        `Scene`: A scene with its objects in the order of `pairs`.
    """
    sizes = [rng.choice(SIZES) for _ in pairs]
    radii = [rng.uniform(*radius_range(size, len(pairs))) for size in sizes]
    centres = _centres(radii, rng)
    grey = rng.randint(*BACKGROUND)
    objects = tuple(
        SceneObject(noun, colour, size, centre, radius, _tint(TINT, rng))
        for (colour, noun), size, centre, radius in zip(pairs, sizes, centres, radii, strict=True)
    )
    red, green, blue = (min(grey + shift, 255) for shift in _tint(BACKGROUND_TINT, rng))
    return Scene(objects, (red, green, blue), seed)


def _tint(most: int, rng: random.Random) -> tuple[int, int, int]:
    """Draw differences of red, green and blue, from -most to +most."""
    red, green, blue = (int((2 * most + 1) * rng.random()) - most for _ in range(3))
    return red, green, blue


def generate_scene(seed: int, num_objects: int | None = None, split: str = "train") -> Scene:
    """Generate a scene as a pure function of its arguments.

    Scenes of "train" and "validation" contain no combination of `HELD_OUT`; scenes of "test" contain at least one.
    Apart from that, colours and nouns are uniform. Splits use different random streams, so equal seeds of two splits
    give unrelated scenes.

    Args:
        seed (`int`): Any integer.
        num_objects (`int`, *optional*): Number of objects, 1 to 4. By default it is drawn with `NUM_OBJECTS_WEIGHTS`.
        split (`str`): One of `SPLITS`.

    Returns:
        `Scene`: A scene with distinct nouns, distinct colours and no overlap.

    Raises:
        ValueError: If `split` or `num_objects` is not accepted.

    Example:

        >>> scene = generate_scene(13)
        >>> scene.entities(image_size=64)
        [('a large red umbrella', (35, 34, 59, 56)), ('a large yellow heart', (18, 4, 41, 28))]
        >>> scene.relations()
        [(0, 'right of', 1), (0, 'below', 1), (1, 'left of', 0), (1, 'above', 0)]
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; accepted: {', '.join(SPLITS)}")
    if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
        raise ValueError(f"num_objects is {num_objects}; accepted: 1 to {MAX_OBJECTS}, or None to draw it")
    rng = random.Random(f"scene/{split}/{seed}")
    if num_objects is None:
        (num_objects,) = rng.choices(range(1, MAX_OBJECTS + 1), NUM_OBJECTS_WEIGHTS)
    while True:
        pairs = list(zip(rng.sample(COLOURS, num_objects), rng.sample(NOUNS, num_objects), strict=True))
        if (split == "test") != HELD_OUT.isdisjoint(pairs):
            return place_objects(pairs, rng, seed)
