"""Items of the benchmarks on generated scenes: true, paired, and at chance for whoever sees no image."""

import math
import random
import re
from collections import Counter
from itertools import combinations

import pytest
from scene_reader import judge, read

from compalign.data.scenes import (
    COLOURS,
    HELD_OUT,
    NEGATIVE_KINDS,
    NOUNS,
    CompositionItem,
    composition_items,
    full_caption,
    generate_scene,
    negative_caption,
    render,
    retrieval_items,
    scene_row,
    zero_shot_items,
    zero_shot_labels,
)

ITEMS = {kind: composition_items(kind, 1200) for kind in NEGATIVE_KINDS}
TRAINING = [scene_row(seed, num_negatives=0)["caption"] for seed in range(3000)]
CHANGED = {
    "replace_object": {"noun"},
    "replace_attribute": {"colour", "size"},
    "replace_relation": {"relation", "place"},
    "swap_object": {"noun", "relation", "place"},
    "swap_attribute": {"colour", "size"},
    "add_object": {"noun"},
    "add_attribute": {"size"},
}


def pairs(kind):
    return zip(ITEMS[kind][::2], ITEMS[kind][1::2], strict=True)


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_each_item_has_two_true_captions_and_a_clearly_false_one(kind):
    for item in ITEMS[kind]:
        assert item.kind == kind
        assert judge(item.caption, item.scene) is True, item.caption
        assert judge(item.paraphrase, item.scene) is True, item.paraphrase
        assert judge(item.negative, item.scene) is False, item.negative


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_a_paraphrase_is_true_of_exactly_the_same_scenes(kind):
    for first, second in pairs(kind):
        for item, other in ((first, second), (second, first)):
            assert item.paraphrase not in (item.caption, item.negative)
            assert read(item.paraphrase).facts == read(item.caption).facts != read(item.negative).facts
            assert judge(item.paraphrase, other.scene) is False
            assert judge(other.paraphrase, item.scene) is False


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_the_changed_part_is_named(kind):
    """Judged by the two readings: which fields of which things differ."""
    for item in ITEMS[kind]:
        old, new = read(item.caption), read(item.negative)
        things = list(zip(old.things, new.things, strict=True))
        fields = {
            name for before, after in things for name in before._fields if getattr(before, name) != getattr(after, name)
        }
        exchanged = {"noun", "colour"} <= fields and Counter(t[:3] for t in old.things) == Counter(
            t[:3] for t in new.things
        )
        if old.direction != new.direction:
            assert (fields, item.changed) == (set(), "relation")
        elif exchanged:
            assert item.changed == ("place" if old.things[0].place else "relation")
        elif kind == "add_object":
            assert item.changed == "noun"
            assert "noun" in fields
            assert all(before == after for before, after in things[:-1])
        else:
            assert {item.changed} == fields
    assert {item.changed for item in ITEMS[kind]} == CHANGED[kind]


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_items_mirror_each_other_and_touch_held_out_combinations(kind):
    for first, second in pairs(kind):
        assert (first.pair, first.caption, first.negative) == (second.pair, second.negative, second.caption)
        assert first.changed == second.changed
        assert first.scene.held_out or second.scene.held_out
        assert render(first.scene).tobytes() != render(second.scene).tobytes()
    assert len({item.caption for item in ITEMS[kind]}) > 1100


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_the_scenes_of_a_pair_are_valid_and_differ_in_what_is_asked_only(kind):
    for first, second in pairs(kind):
        for scene in (first.scene, second.scene):
            assert len({i.noun for i in scene.objects}) == len({i.colour for i in scene.objects}) == len(scene.objects)
            for a, b in combinations(scene.boxes(64), 2):
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        before, after = first.scene, second.scene
        assert (before.background, len(before.objects)) == (after.background, len(after.objects))
        moved = [a.centre != b.centre for a, b in zip(before.objects, after.objects, strict=True)]
        painted = [
            (a.noun, a.colour, a.size) != (b.noun, b.colour, b.size)
            for a, b in zip(before.objects, after.objects, strict=True)
        ]
        if kind == "replace_relation":
            assert not any(painted)
            assert first.changed == "relation" or sum(moved) == 1
        elif kind != "add_object":
            assert not any(moved)
            assert 1 <= sum(painted) <= 2


def test_relation_and_place_items_turn_every_direction_into_every_other():
    relations, places = set(), set()
    for item in ITEMS["replace_relation"]:
        old, new = read(item.caption), read(item.negative)
        relations.add((old.direction, new.direction))
        places.update((a.place, b.place) for a, b in zip(old.things, new.things, strict=True) if a.place != b.place)
    assert len(relations - {(None, None)}) == len(places) == 4 * 3


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_splits_hold_nothing_held_out(split):
    for kind in NEGATIVE_KINDS:
        for item in composition_items(kind, 40, split):
            assert not item.scene.held_out
            for text in (item.caption, item.negative, item.paraphrase):
                assert not any((thing.colour, thing.noun) in HELD_OUT for thing in read(text).things)


def test_items_are_a_pure_function_of_their_arguments():
    for kind in NEGATIVE_KINDS:
        assert composition_items(kind, 31) == ITEMS[kind][:31]
        assert composition_items(kind, 30, seed=1) != ITEMS[kind][:30]


def log_likelihood(text, counts, order):
    """Return the log-likelihood of a text under an add-one n-gram model of this order."""
    words = ["<s>", *re.findall(r"\w+", text), "</s>"]
    total = 0.0
    for k in range(1, len(words)):
        context = tuple(words[k - order + 1 : k])
        total += math.log((counts[(*context, words[k])] + 1) / (counts[context] + 80))
    return total


def count_ngrams(texts, order):
    """Count all n-grams of an order and their contexts."""
    counts = Counter()
    for text in texts:
        words = ["<s>", *re.findall(r"\w+", text), "</s>"]
        for k in range(1, len(words)):
            context = tuple(words[k - order + 1 : k])
            counts[context] += 1
            counts[(*context, words[k])] += 1
    return counts


def preferred(items, score):
    """Return the percentage of items whose caption scores above its negative, ties counting half."""
    gaps = [score(item.caption) - score(item.negative) for item in items]
    return 100 * sum((gap > 0) + 0.5 * (gap == 0) for gap in gaps) / len(gaps)


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
@pytest.mark.parametrize("order", [1, 2])
def test_text_alone_is_at_chance(kind, order):
    """Exactly 50 % for scores that never saw the items; even numbers fitted on the true captions stay there."""
    trained = count_ngrams(TRAINING, order)
    fitted = count_ngrams([item.caption for item in ITEMS[kind]], order)
    for part in CHANGED[kind]:
        items = [item for item in ITEMS[kind] if item.changed == part]
        assert preferred(items, len) == 50
        assert preferred(items, lambda text: -len(text.split())) == 50
        assert preferred(items, lambda text: log_likelihood(text, trained, order)) == 50
        assert preferred(items, lambda text: log_likelihood(text, fitted, order)) == 50


def test_the_blind_baseline_can_win():
    """The same likelihood, on SugarCrepe's form of an added object, is far from chance."""
    items = []
    for seed in range(300):
        scene = generate_scene(seed)
        said = full_caption(scene, random.Random(seed))
        negative = negative_caption(scene, said, "add_object", random.Random(seed))
        if negative is not None:
            items.append(CompositionItem(scene, said.text, negative, said.text, "add_object", "noun", seed))
    trained = count_ngrams(TRAINING, 2)
    assert preferred(items, lambda text: log_likelihood(text, trained, 2)) > 95


def test_retrieval_captions_are_distinct_and_true():
    items = retrieval_items(300)
    assert items == retrieval_items(300)
    assert len({item.caption for item in items}) == 300
    assert all(judge(item.caption, item.scene) is True and len(item.scene.objects) > 1 for item in items)


def test_zero_shot_classes_are_balanced_and_flag_the_held_out():
    labels, items = zero_shot_labels(), zero_shot_items(640)
    assert len({label.prompt for label in labels}) == len(COLOURS) * len(NOUNS) == 320
    assert {(label.colour, label.noun) for label in labels if label.held_out} == HELD_OUT
    assert set(Counter(item.label for item in items).values()) == {2}
    for scene, label in items:
        (item,) = scene.objects
        assert labels[label][:2] == (item.colour, item.noun)
        assert judge(labels[label].prompt, scene) is True
    assert zero_shot_items(640) == items
