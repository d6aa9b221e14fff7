"""Captions, negatives, benchmarks and questions, judged by a reader that knows only the text and the objects."""

import math
import pickle
import random
import re
from collections import Counter

import pytest

from compalign.data.scenes import (
    COLOURS,
    HELD_OUT,
    NEGATIVE_KINDS,
    PATTERNS,
    QUESTION_KINDS,
    SHAPES,
    SIZES,
    SPLITS,
    CompositionItem,
    Scene,
    SceneDataset,
    SceneObject,
    WebSceneDataset,
    composition_items,
    full_caption,
    generate_scene,
    negative_caption,
    questions,
    render,
    retrieval_items,
    scene_row,
    web_caption,
    web_row,
    zero_shot_items,
    zero_shot_labels,
)

SIDES = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "over": (1, -1), "below": (1, 1), "under": (1, 1)}
NOUN = re.compile(
    rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(PATTERNS)}) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)})"
)


def is_true(text, scene):
    """Read a sentence from its words alone and judge it."""
    found = []
    for words in NOUN.findall(text):
        fitting = [
            item
            for item in scene.objects
            if all(
                not said or said == actual
                for said, actual in zip(words, (item.size, item.pattern, item.colour, item.shape), strict=True)
            )
        ]
        if len(fitting) != 1:
            return False
        found.append(fitting[0])
    if place := re.search(r"(?:on|at) the (left|right|top|bottom)$", text):
        axis, sign = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}[place[1]]
        return len(found) == 1 and sign * (found[0].centre[axis] - 0.5) > 0.1
    sides = [word for word in text.replace(",", "").split() if word in SIDES]
    if not sides:
        return True
    axis, sign = SIDES[sides[0]]
    first, second = found[:2]
    if text.startswith(("to the", *SIDES)):
        first, second = second, first
    return sign * (first.centre[axis] - second.centre[axis]) > 0.1


def captioned(caption, number=600):
    for split in SPLITS:
        for seed in range(number):
            scene = generate_scene(seed, split=split)
            yield scene, caption(scene, random.Random(seed))


def test_the_reader_can_say_no():
    heart = SceneObject("heart", "green", "large", "striped", (0.3, 0.7), 0.19)
    circle = SceneObject("circle", "yellow", "large", "solid", (0.7, 0.3), 0.19)
    scene = Scene((heart, circle), (230, 230, 230), 0)
    assert is_true("a striped heart is below a circle", scene)
    assert is_true("over a green heart there is a yellow circle", scene)
    assert not is_true("a striped heart is above a circle", scene)
    assert not is_true("under a green heart there is a yellow circle", scene)
    assert not is_true("a small heart and a circle", scene)
    assert is_true("a photo of a green heart on the left", scene)
    assert not is_true("a photo of a green heart on the right", scene)
    assert not is_true("a heart at the top", scene)
    assert not is_true("a heart, a star and a circle", scene)


@pytest.mark.parametrize("caption", [web_caption, full_caption])
def test_every_caption_is_true(caption):
    for scene, said in captioned(caption):
        assert is_true(said.text, scene), said.text


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
@pytest.mark.parametrize("caption", [web_caption, full_caption])
def test_every_negative_is_false_and_worded_like_its_caption(kind, caption):
    made = 0
    for scene, said in captioned(caption):
        negative = negative_caption(scene, said, kind, random.Random(1))
        if negative is None:
            continue
        made += 1
        assert negative != said.text
        assert not is_true(negative, scene), (said.text, negative)
        assert negative.count("there is") == said.text.count("there is")
        longer = {"add_object": 1, "add_attribute": 0}.get(kind, 0)
        assert len(NOUN.findall(negative)) == len(NOUN.findall(said.text)) + longer
        if not scene.held_out:
            assert not any((words[2], words[3]) in HELD_OUT for words in NOUN.findall(negative))
    assert made > 100


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("replace_object", lambda old, new: sum((Counter(new) - Counter(old)).values()) == 1),
        ("replace_attribute", lambda old, new: sum((Counter(new) - Counter(old)).values()) == 1),
        ("swap_object", lambda old, new: Counter(new) == Counter(old)),
        ("swap_attribute", lambda old, new: Counter(new) == Counter(old)),
        ("add_attribute", lambda old, new: len(new) == len(old) + 1 and not Counter(old) - Counter(new)),
        ("add_object", lambda old, new: len(new) > len(old) + 1 and not Counter(old) - Counter(new)),
    ],
)
def test_each_kind_changes_what_its_name_says(kind, changed):
    for scene, said in captioned(full_caption, number=200):
        negative = negative_caption(scene, said, kind, random.Random(2))
        if negative is not None:
            old, new = (re.findall(r"\w+", text) for text in (said.text, negative))
            if kind == "add_object":  # "a and b" becomes "a, b and c"
                old, new = ([word for word in words if word not in ("and", "with")] for words in (old, new))
            assert changed(old, new), (said.text, negative)


def test_a_replaced_relation_keeps_the_objects():
    for scene, said in captioned(full_caption, number=200):
        negative = negative_caption(scene, said, "replace_relation", random.Random(2))
        assert (negative is None) == (len(scene.objects) == 1)
        if negative is not None:
            assert NOUN.findall(negative) == NOUN.findall(said.text)


def test_an_unknown_kind_is_named():
    scene = generate_scene(0)
    with pytest.raises(ValueError, match=r"'shuffle'.*replace_object"):
        negative_caption(scene, full_caption(scene, random.Random(0)), "shuffle", random.Random(0))


def test_web_captions_mix_their_kinds_and_full_captions_always_relate():
    several = [generate_scene(seed, 3) for seed in range(2000)]
    rng = random.Random(0)
    web = [web_caption(scene, rng).statement for scene in several]
    # Standard deviation at n = 2000: 1.1 points. An object in the middle has no place, which costs a little.
    assert sum(len(said.mentions) == 1 for said in web) / 2000 == pytest.approx(0.50, abs=0.04)
    assert sum(said.relation is not None for said in web) / 2000 == pytest.approx(0.25, abs=0.04)
    assert 0.14 < sum(said.place is not None for said in web) / 2000 < 0.22
    assert all(full_caption(scene, rng).statement.relation for scene in several)


def test_the_vocabulary_is_small():
    words = Counter()
    for seed in range(800):
        row = scene_row(seed)
        for text in (row["caption"], *row["negative_captions"], web_row(seed)["caption"]):
            words.update(re.findall(r"\w+", text))
    print(f"{len(words)} words")
    assert len(words) <= 50


def test_rows_are_pure_and_epochs_change_the_words_only():
    first, again, later = scene_row(3), scene_row(3), scene_row(3, epoch=1)
    assert first["image"].tobytes() == again["image"].tobytes() == later["image"].tobytes()
    assert {**first, "image": 0} == {**again, "image": 0}
    assert any(scene_row(seed)["caption"] != scene_row(seed, epoch=1)["caption"] for seed in range(5))


@pytest.mark.parametrize("num_negatives", [0, 1, 4, 400])
def test_negatives_are_distinct_false_and_padded_behind_a_mask(num_negatives):
    ragged = 0
    for seed in range(20):
        row, scene = scene_row(seed, "test", num_negatives), generate_scene(seed, split="test")
        valid = sum(row["negative_mask"])
        assert row["negative_mask"] == [1] * valid + [0] * (num_negatives - valid)
        for column in ("negative_captions", "negative_kinds"):
            assert len(row[column]) == num_negatives
            assert all(row[column][:valid])
            assert not any(row[column][valid:])
        texts = row["negative_captions"][:valid]
        assert len({row["caption"], *texts}) == valid + 1
        assert is_true(row["caption"], scene)
        assert not any(is_true(text, scene) for text in texts)
        ragged += valid < num_negatives
    assert (ragged > 0) == (num_negatives == 400)


@pytest.mark.parametrize("kind", [SceneDataset, WebSceneDataset])
def test_a_dataset_is_stateless_and_survives_a_worker(kind):
    data = kind(20, image_size=32, seed=3)
    copy = pickle.loads(pickle.dumps(data))
    assert len(data) == 20 == len(list(data))
    for index in (7, 0, 7):
        assert {**data[index], "image": 0} == {**copy[index], "image": 0}
        assert data[index]["image"].size == (32, 32)
    assert not {row["image_id"] for row in data} & {row["image_id"] for row in kind(20, seed=4)}
    with pytest.raises(IndexError, match="index is 20; accepted: 0 to 19"):
        data[20]


def test_an_easy_start_has_full_captions_of_two_objects_first():
    data, plain = WebSceneDataset(40, dense=20), WebSceneDataset(40)
    assert all(len(NOUN.findall(row["caption"])) == 2 for row in list(data)[:20])
    assert all(is_true(row["caption"], generate_scene(row["image_id"], 2)) for row in list(data)[:20])
    assert [row["caption"] for row in data][20:] == [row["caption"] for row in plain][20:]
    assert data[0]["image"].tobytes() == render(generate_scene(0, 2)).tobytes()


ITEMS = {kind: composition_items(kind, 1200) for kind in NEGATIVE_KINDS}


def texts_of(kind):
    """Return caption, negative, caption, negative, ..."""
    return [text for item in ITEMS[kind] for text in (item.caption, item.negative)]


TRAINING = [scene_row(seed, num_negatives=0)["caption"] for seed in range(3000)]


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_each_item_has_a_true_and_a_false_caption(kind):
    for item in ITEMS[kind]:
        assert item.kind == kind
        assert is_true(item.caption, item.scene), item.caption
        assert not is_true(item.negative, item.scene), item.negative


@pytest.mark.parametrize("kind", NEGATIVE_KINDS)
def test_items_mirror_each_other_and_touch_held_out_combinations(kind):
    items = ITEMS[kind]
    for first, second in zip(items[::2], items[1::2], strict=True):
        assert (first.pair, first.caption, first.negative) == (second.pair, second.negative, second.caption)
        assert first.scene.held_out or second.scene.held_out
        assert render(first.scene).tobytes() != render(second.scene).tobytes()
    assert len({item.caption for item in items}) > 1100


def test_relation_items_turn_every_direction_into_every_other():
    sides = [[word for word in re.findall(r"\w+", text) if word in SIDES] for text in texts_of("replace_relation")]
    turns = {(SIDES[true[0]], SIDES[false[0]]) for true, false in zip(sides[::2], sides[1::2], strict=True)}
    assert len(turns) == 4 * 3


@pytest.mark.parametrize("split", ["train", "validation"])
def test_other_splits_hold_nothing_held_out(split):
    for kind in NEGATIVE_KINDS:
        for item in composition_items(kind, 40, split):
            assert not item.scene.held_out
            assert not any((words[2], words[3]) in HELD_OUT for words in NOUN.findall(item.negative))


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
        total += math.log((counts[(*context, words[k])] + 1) / (counts[context] + 50))
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
    items = ITEMS[kind]
    assert preferred(items, len) == 50
    assert preferred(items, lambda text: -len(text.split())) == 50
    trained = count_ngrams(TRAINING, order)
    assert preferred(items, lambda text: log_likelihood(text, trained, order)) == 50
    fitted = count_ngrams([item.caption for item in items], order)
    assert preferred(items, lambda text: log_likelihood(text, fitted, order)) == 50


def test_the_blind_baseline_can_win():
    """The same likelihood, on SugarCrepe's form of an added object, is far from chance."""
    items = []
    for seed in range(300):
        scene = generate_scene(seed)
        said = full_caption(scene, random.Random(seed))
        negative = negative_caption(scene, said, "add_object", random.Random(seed))
        if negative is not None:
            items.append(CompositionItem(scene, said.text, negative, "add_object", seed))
    trained = count_ngrams(TRAINING, 2)
    assert preferred(items, lambda text: log_likelihood(text, trained, 2)) > 95


def test_retrieval_captions_are_distinct_and_true():
    items = retrieval_items(300)
    assert items == retrieval_items(300)
    assert len({item.caption for item in items}) == 300
    assert all(is_true(item.caption, item.scene) and len(item.scene.objects) > 1 for item in items)


def test_zero_shot_classes_are_balanced_and_flag_the_held_out():
    labels, items = zero_shot_labels(), zero_shot_items(128)
    assert len({label.prompt for label in labels}) == 64
    assert {(label.colour, label.shape) for label in labels if label.held_out} == HELD_OUT
    assert set(Counter(item.label for item in items).values()) == {2}
    for scene, label in items:
        assert labels[label].prompt == f"a {scene.objects[0].colour} {scene.objects[0].shape}"
        assert is_true(labels[label].prompt, scene)
        assert len(scene.objects) == 1
    assert zero_shot_items(128) == items


def answer_of(text, scene):
    """Answer a question from its words alone."""
    numbers = ("zero", "one", "two", "three", "four")
    if text.startswith("how many"):
        return numbers[sum(all(p not in text or p == item.pattern for p in PATTERNS) for item in scene.objects)]
    named = [item for words in NOUN.findall(text) for item in scene.objects if item.shape == words[3]]
    if text.startswith("is there"):
        return "yes" if is_true(text, scene) else "no"
    if text.startswith("what colour"):
        return named[0].colour
    if text.startswith("what shape"):
        (there,) = [
            item for item in scene.objects if item is not named[0] and is_true(f"a {item.shape} {text[14:-1]}", scene)
        ]
        return there.shape
    if "solid, striped or dotted" in text:
        return named[0].pattern
    return "yes" if is_true(text, scene) else "no"


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_right_and_yes_is_as_frequent_as_no(split):
    answers = {"relation": Counter(), "exists": Counter()}
    kinds = set()
    for seed in range(1500):
        scene = generate_scene(seed, split=split)
        for question in questions(scene, random.Random(seed)):
            kinds.add(question.kind)
            assert question.answer == answer_of(question.text, scene), question
            if question.kind in answers:
                answers[question.kind][question.answer] += 1
    assert kinds == set(QUESTION_KINDS)
    for counts in answers.values():
        # Standard deviation 1.4 points at n = 1200.
        assert counts["yes"] / counts.total() == pytest.approx(0.5, abs=0.05)
