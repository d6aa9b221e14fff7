"""The scenes themselves: purity, placement, held-out combinations, pixels."""

import time
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from compalign.data.scenes import (
    COLOURS,
    HELD_OUT,
    PATTERNS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    generate_scene,
    render,
)
from compalign.data.scenes.components import scene_regions

SCENES = [generate_scene(seed, split=split) for split in SPLITS for seed in range(400)]


def pairs(scene):
    return {(item.colour, item.shape) for item in scene.objects}


def test_a_scene_is_a_pure_function_of_its_seed():
    for seed in (0, 7, -3, 2**80):
        assert generate_scene(seed) == generate_scene(seed)
        assert render(generate_scene(seed)).tobytes() == render(generate_scene(seed)).tobytes()


def test_scenes_are_the_same_on_every_machine():
    """Stored from this code: a change of generator would silently change every published number."""
    scene = generate_scene(0)
    assert [item.phrase for item in scene.objects] == ["a large dotted green heart", "a large dotted yellow circle"]
    assert scene.boxes(64) == [(19, 1, 43, 25), (6, 29, 31, 54)]


def test_seeds_and_splits_differ_in_content():
    assert len({(scene.objects, scene.background) for scene in SCENES}) == len(SCENES)


def test_held_out_combinations_cover_every_colour_and_shape_once():
    assert sorted(colour for colour, _ in HELD_OUT) == sorted(COLOURS)
    assert sorted(shape for _, shape in HELD_OUT) == sorted(SHAPES)


@pytest.mark.parametrize(("split", "expected"), [("train", False), ("validation", False), ("test", True)])
def test_held_out_combinations_occur_in_every_test_scene_and_nowhere_else(split, expected):
    for seed in range(2000):
        scene = generate_scene(seed, split=split)
        assert bool(pairs(scene) & HELD_OUT) == expected == scene.held_out


def test_training_shows_every_value_about_equally_often():
    items = [item for seed in range(3000) for item in generate_scene(seed).objects]
    for name, values in {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "pattern": PATTERNS}.items():
        counts = Counter(getattr(item, name) for item in items)
        assert set(counts) == set(values)
        # Seven thousand draws: four standard deviations of the rarest value are below 15 % of its count.
        assert all(abs(count * len(values) / len(items) - 1) < 0.15 for count in counts.values())
    assert len({(item.colour, item.shape) for item in items}) == len(COLOURS) * len(SHAPES) - len(HELD_OUT)


def test_objects_are_distinct_and_do_not_overlap():
    for scene in SCENES:
        assert len({item.shape for item in scene.objects}) == len({item.colour for item in scene.objects})
        assert len({item.shape for item in scene.objects}) == len(scene.objects)
        canvas = np.zeros((64, 64), int)
        for left, top, right, bottom in scene.boxes(64):
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            canvas[top:bottom, left:right] += 1
        assert canvas.max() == 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_number_of_objects_can_be_chosen(count):
    assert all(len(generate_scene(seed, count, "test").objects) == count for seed in range(50))


def test_every_small_object_is_smaller_than_every_large_one():
    radii = {size: [item.radius for scene in SCENES for item in scene.objects if item.size == size] for size in SIZES}
    assert max(radii["small"]) < min(radii["large"])


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


def pixels(scene, image_size):
    return np.asarray(render(scene, image_size)).astype(int)


@pytest.mark.parametrize("image_size", [64, 97, 224])
def test_boxes_are_exactly_the_pixels_drawn(image_size):
    for scene in SCENES[::25]:
        whole = pixels(scene, image_size)
        for index, box in enumerate(scene.boxes(image_size)):
            others = scene.objects[:index] + scene.objects[index + 1 :]
            rows, columns = np.nonzero(np.abs(whole - pixels(replace(scene, objects=others), image_size)).sum(2))
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box
            # Rounding of a corner and of the side: at most half a pixel and a quarter.
            for axis, centre in enumerate(scene.objects[index].centre):
                assert abs((box[axis] + box[axis + 2]) / 2 - centre * image_size) <= 0.75


def test_every_shape_and_pattern_is_drawn_differently():
    (item,) = generate_scene(5, 1).objects
    drawn = {
        render(replace(generate_scene(5, 1), objects=(replace(item, shape=shape, pattern=pattern),))).tobytes()
        for shape in SHAPES
        for pattern in PATTERNS
    }
    assert len(drawn) == len(SHAPES) * len(PATTERNS)


def test_regions_are_the_objects_and_the_boxes_around_each_pair():
    for scene in SCENES[::5]:
        entities, relations = scene_regions(scene, 64)
        assert [(f"a {entity.label}", entity.box) for entity in entities] == scene.entities(64)
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
