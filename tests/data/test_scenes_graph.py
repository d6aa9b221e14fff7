"""The scenes themselves: purity, placement, held-out combinations, pixels."""

import time
from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from compalign.data.scenes import (
    COLOURS,
    HELD_OUT,
    NOUNS,
    PLACES,
    RELATIONS,
    SIZES,
    SPLITS,
    Scene,
    SceneObject,
    generate_scene,
    render,
)
from compalign.data.scenes.components import scene_regions
from compalign.data.scenes.glyphs import GLYPHS
from compalign.data.scenes.graph import TINT, located, radius_range
from compalign.data.scenes.render import FONT, RGB

SCENES = [generate_scene(seed, split=split) for split in SPLITS for seed in range(400)]


def pairs(scene):
    return {(item.colour, item.noun) for item in scene.objects}


def test_a_scene_is_a_pure_function_of_its_seed():
    for seed in (0, 7, -3, 2**80):
        assert generate_scene(seed) == generate_scene(seed)
        assert render(generate_scene(seed)).tobytes() == render(generate_scene(seed)).tobytes()


def test_scenes_are_the_same_on_every_machine():
    """Stored from this code: a change of generator would silently change every published number."""
    scene = generate_scene(3)
    assert [item.phrase for item in scene.objects] == ["a small orange crown"]
    assert scene.boxes(64) == [(36, 2, 53, 20)]
    assert scene.background == (175, 194, 183)
    assert [item.tint for item in scene.objects] == [(-2, 0, 3)]


def test_seeds_and_splits_differ_in_content():
    assert len({(scene.objects, scene.background) for scene in SCENES}) == len(SCENES)


def test_held_out_combinations_cover_every_noun_once_and_every_colour_equally():
    assert sorted(noun for _, noun in HELD_OUT) == sorted(NOUNS)
    assert Counter(colour for colour, _ in HELD_OUT) == dict.fromkeys(COLOURS, len(NOUNS) // len(COLOURS))


@pytest.mark.parametrize(("split", "expected"), [("train", False), ("validation", False), ("test", True)])
def test_held_out_combinations_occur_in_every_test_scene_and_nowhere_else(split, expected):
    for seed in range(2000):
        scene = generate_scene(seed, split=split)
        assert bool(pairs(scene) & HELD_OUT) == expected == scene.held_out


def test_training_shows_every_value_about_equally_often():
    """16,000 draws: four standard deviations are 20 % of the count of a noun, 9 % of a colour, 3 % of a size."""
    items = [item for seed in range(7500) for item in generate_scene(seed).objects]
    for name, values, tolerance in (("noun", NOUNS, 0.2), ("colour", COLOURS, 0.09), ("size", SIZES, 0.035)):
        counts = Counter(getattr(item, name) for item in items)
        assert set(counts) == set(values)
        assert all(abs(count * len(values) / len(items) - 1) < tolerance for count in counts.values())
    assert {(item.colour, item.noun) for item in items} == set(product(COLOURS, NOUNS)) - HELD_OUT


def test_objects_are_distinct_and_do_not_overlap():
    for scene in SCENES:
        assert len({item.noun for item in scene.objects}) == len({item.colour for item in scene.objects})
        assert len({item.noun for item in scene.objects}) == len(scene.objects)
        canvas = np.zeros((64, 64), int)
        for left, top, right, bottom in scene.boxes(64):
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            canvas[top:bottom, left:right] += 1
        assert canvas.max() == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_of_objects_can_be_chosen(count):
    assert all(len(generate_scene(seed, count, "test").objects) == count for seed in range(50))


@pytest.mark.parametrize("noun", NOUNS)
def test_every_small_object_is_smaller_than_every_large_one(noun):
    """By the longer side of its box, in scenes of any number of objects and in whole pixels."""
    sides = {}
    for size, largest in (("small", True), ("large", False)):
        radii = [radius_range(size, count)[largest] for count in (1, 2, 3, 4)]
        boxes = [drawn(SceneObject(noun, "red", size, (0.5, 0.5), radius)).boxes(64)[0] for radius in radii]
        sides[size] = [max(right - left, bottom - top) for left, top, right, bottom in boxes]
    assert max(sides["small"]) < min(sides["large"])


def test_drawn_radii_are_in_the_ranges_of_their_sizes():
    for scene in SCENES:
        for item in scene.objects:
            low, high = radius_range(item.size, len(scene.objects))
            assert low <= item.radius <= high
            assert item.radius <= min(*item.centre, *(1 - value for value in item.centre))


def test_relations_are_clear_and_complete():
    """On each axis, two centres are at least 11 pixels of 64 apart and related, or at most 4 and not."""
    steps = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    for scene in SCENES:
        related = set(scene.relations())
        for i, first in enumerate(scene.objects):
            for j, second in enumerate(scene.objects):
                if i == j:
                    continue
                names = {name for name in RELATIONS if (i, name, j) in related}
                assert names
                for name, (axis, sign) in steps.items():
                    distance = 64 * sign * (first.centre[axis] - second.centre[axis])
                    assert distance >= 11 if name in names else distance <= 4


def test_an_object_is_at_most_at_one_side_of_an_axis_and_well_off_the_middle():
    """5 of 64 pixels: where an object lies is visible."""
    shares = Counter()
    for scene in SCENES:
        for item in scene.objects:
            x, y = (64 * (value - 0.5) for value in item.centre)
            at = {"left": x < -5.12, "right": x > 5.12, "top": y < -5.12, "bottom": y > 5.12}
            assert {name: located(item, name) for name in PLACES} == at
            shares.update(name for name in PLACES if at[name])
    assert min(shares.values()) > 0.9 * max(shares.values())


def drawn(*items):
    return Scene(items, (215, 215, 215), 0)


def pixels(scene, image_size):
    return np.asarray(render(scene, image_size)).astype(int)


@pytest.mark.parametrize("image_size", [64, 97, 224])
def test_boxes_are_the_pixels_drawn(image_size):
    """Within one pixel, which the tip of a star or the edge of a sheet of paper covers too little to be seen."""
    for scene in SCENES[::25]:
        whole = pixels(scene, image_size)
        for index, (item, box) in enumerate(zip(scene.objects, scene.boxes(image_size), strict=True)):
            others = scene.objects[:index] + scene.objects[index + 1 :]
            rows, columns = np.nonzero(np.abs(whole - pixels(replace(scene, objects=others), image_size)).sum(2))
            seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            inside = [*np.subtract(seen[:2], box[:2]), *np.subtract(box[2:], seen[2:])]
            assert min(inside) >= 0
            assert max(inside) <= 1
            # Rounding of a corner and of the side: at most half a pixel and a quarter.
            for axis, centre in enumerate(item.centre):
                assert abs((box[axis] + box[axis + 2]) / 2 - centre * image_size) <= 0.75
            longer = max(box[2] - box[0], box[3] - box[1])
            assert longer == round(2 * item.radius * image_size)


@pytest.mark.parametrize("noun", NOUNS)
def test_boxes_have_the_proportions_of_the_font(noun):
    font = ImageFont.truetype(str(FONT), 1000, layout_engine=ImageFont.Layout.BASIC)
    page = Image.new("L", (3000, 3000))
    ImageDraw.Draw(page).text((1000, 1000), GLYPHS[noun].character, font=font, fill=255)
    left, top, right, bottom = page.getbbox()
    longer = max(right - left, bottom - top)
    assert GLYPHS[noun].width == pytest.approx((right - left) / longer, abs=0.01)
    assert GLYPHS[noun].height == pytest.approx((bottom - top) / longer, abs=0.01)


def test_no_noun_is_drawn_as_an_empty_box():
    """Fonts draw the same box for every symbol that they lack."""
    font = ImageFont.truetype(str(FONT), 100, layout_engine=ImageFont.Layout.BASIC)
    lacking = bytes(font.getmask("\U0010fffd"))
    assert lacking not in {bytes(font.getmask(glyph.character)) for glyph in GLYPHS.values()}


def ink(noun, colour="black"):
    """How much of each pixel of the smallest object of the world is covered, in [0, 1]."""
    item = SceneObject(noun, colour, "small", (0.5, 0.5), radius_range("small", 4)[0])
    return (215 - pixels(drawn(item), 64)).max(2) / (215 - 20)


def test_every_noun_is_drawn_differently_and_with_enough_ink_at_the_smallest_size():
    """20 fully covered pixels at least, and as much ink that another noun lacks or has in excess."""
    inks = {noun: ink(noun) for noun in NOUNS}
    assert min(value.sum() for value in inks.values()) >= 20
    nearest = min((np.abs(inks[a] - inks[b]).sum(), a, b) for a, b in combinations(NOUNS, 2))
    print(nearest)
    assert nearest[0] >= 20


def test_colours_are_far_from_each_other_and_from_every_background():
    """In their largest channel, after the tints have brought them as near as they can."""
    for first, second in combinations(COLOURS, 2):
        assert max(abs(a - b) for a, b in zip(RGB[first], RGB[second], strict=True)) - 2 * TINT >= 30
    for scene in SCENES:
        for item in scene.objects:
            tinted = [min(max(value + shift, 0), 255) for value, shift in zip(RGB[item.colour], item.tint, strict=True)]
            assert max(abs(shift) for shift in item.tint) <= TINT
            assert max(abs(a - b) for a, b in zip(tinted, scene.background, strict=True)) >= 30


def test_regions_are_the_objects_and_the_boxes_around_each_pair():
    for scene in SCENES[::5]:
        entities, relations = scene_regions(scene, 64)
        assert [entity.label for entity in entities] == [f"{i.size} {i.colour} {i.noun}" for i in scene.objects]
        assert all(
            phrase == f"a {entity.label}" for (phrase, _), entity in zip(scene.entities(64), entities, strict=True)
        )
        assert [entity.box for entity in entities] == scene.boxes(64)
        assert {relation.pair for relation in relations} == set(combinations(range(len(entities)), 2))
        for relation in relations:
            first, second = (entities[index] for index in relation.pair)
            edges = list(zip(first.box, second.box, strict=True))
            assert relation.box == (*map(min, edges[:2]), *map(max, edges[2:]))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"'dev'.*train, validation, test"):
        generate_scene(0, split="dev")
    with pytest.raises(ValueError, match="num_objects is 5; accepted: 1 to 4"):
        generate_scene(0, 5)


def test_thousands_of_scenes_are_drawn_in_a_second():
    for seed in range(1000):  # fills the cache of masks
        render(generate_scene(seed))
    start = time.process_time()
    for seed in range(1000, 3000):
        render(generate_scene(seed))
    rate = 2000 / (time.process_time() - start)
    print(f"{rate:,.0f} scenes per second")
    assert rate >= 1500
