"""Conversations about scenes are true of them, except where they are shuffled, and then of another."""

import random
from collections import Counter

import pytest
from datasets import Dataset, List
from datasets import Image as ImageFeature
from scene_reader import answer_of, judge

from compalign.data import load_conversations
from compalign.data.scenes import (
    SPLITS,
    SceneConversationDataset,
    generate_scene,
    render,
    scene_conversation,
)
from compalign.data.scenes.conversations import CAPTION_REQUESTS
from compalign.data.scenes.dataset import SEED_STRIDE

SEEDS = range(300)
ROWS = {(split, seed): scene_conversation(seed, split) for split in SPLITS for seed in SEEDS}


def exchanges(row):
    """What the user asks and the assistant answers, in pairs."""
    said = [part["text"] for message in row["messages"] for part in message["content"] if part["type"] == "text"]
    return list(zip(said[::2], said[1::2], strict=True))


def is_description(row):
    return exchanges(row)[0][0] in CAPTION_REQUESTS


def shuffled(dataset):
    """The rows that tell of another scene, and of which."""
    told = {index: dataset.text_seed(index) for index in range(len(dataset))}
    return {index: seed for index, seed in told.items() if seed != dataset.scene_seed(index)}


def test_the_image_comes_first_and_speakers_take_turns():
    for row in ROWS.values():
        first, *others = row["messages"]
        assert first["content"][0] == {"type": "image", "text": None}
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * (len(others) // 2 + 1)
        parts = [*first["content"][1:], *(part for message in others for part in message["content"])]
        assert len(parts) == len(row["messages"])
        assert all(part.keys() == {"type", "text"} and part["type"] == "text" and part["text"] for part in parts)


def test_descriptions_are_true_and_answers_right():
    for (split, seed), row in ROWS.items():
        scene = generate_scene(seed, split=split)
        for question, answer in exchanges(row):
            if question in CAPTION_REQUESTS:
                assert judge(answer, scene) is True
            else:
                assert answer == answer_of(question, scene)


def test_half_the_rows_are_descriptions_and_the_others_ask_one_to_three_questions():
    """Binomial with 900 rows: five standard deviations are 8 %."""
    numbers = Counter(0 if is_description(row) else len(exchanges(row)) for row in ROWS.values())
    assert set(numbers) == {0, 1, 2, 3}
    assert abs(numbers[0] / len(ROWS) - 0.5) < 0.08
    assert max(abs(numbers[asked] / len(ROWS) - 1 / 6) for asked in (1, 2, 3)) < 0.08
    requests = {exchanges(row)[0][0] for row in ROWS.values() if is_description(row)}
    assert requests == set(CAPTION_REQUESTS)


def test_a_row_is_a_function_of_split_and_seed():
    for (split, seed), row in list(ROWS.items())[::50]:
        random.seed(seed)
        again = scene_conversation(seed, split)
        assert (again["messages"], again["id"]) == (row["messages"], row["id"])
        (image,) = again["images"]
        assert image == render(generate_scene(seed, split=split), 64)
    assert len({row["id"] for row in ROWS.values()}) == len(ROWS)
    assert ROWS["train", 0]["messages"] != ROWS["test", 0]["messages"]
    assert scene_conversation(0, image_size=32)["images"][0].size == (32, 32)


def test_the_dataset_gives_the_rows_of_its_seeds():
    dataset = SceneConversationDataset(5, "validation", image_size=32, seed=3)
    for index, row in enumerate(dataset):
        expected = scene_conversation(dataset.scene_seed(index), "validation", 32)
        assert (row["messages"], row["images"]) == (expected["messages"], expected["images"])
    assert len(dataset) == 5
    with pytest.raises(IndexError, match="index is 5"):
        dataset[5]


def test_shuffled_rows_keep_their_image_and_tell_of_another_scene():
    dataset = SceneConversationDataset(20, shuffled=1.0)
    for index, row in enumerate(dataset):
        seed, told = dataset.scene_seed(index), dataset.text_seed(index)
        assert told != seed
        assert row["images"] == scene_conversation(seed)["images"]
        assert row["messages"] == scene_conversation(told)["messages"]
        assert row["id"] == f"train/{seed}"


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_as_many_rows_are_shuffled_as_asked_for(share):
    """Binomial with 4,000 rows: five standard deviations are at most 3.2 %."""
    assert len(shuffled(SceneConversationDataset(4000, shuffled=share))) / 4000 == pytest.approx(share, abs=0.032)


def test_which_rows_are_shuffled_depends_on_the_seed_and_grows_with_the_share():
    few, more = (shuffled(SceneConversationDataset(500, shuffled=share)) for share in (0.1, 0.3))
    assert few.items() < more.items()
    assert shuffled(SceneConversationDataset(1000, shuffled=0.1)).items() > few.items()
    assert shuffled(SceneConversationDataset(500, seed=1, shuffled=0.1)).keys() != few.keys()
    assert shuffled(SceneConversationDataset(500, "test", shuffled=0.1)).keys() != few.keys()


@pytest.mark.parametrize("index", [0, 5, SEED_STRIDE - 1])
def test_texts_of_shuffled_rows_stay_within_the_scenes_of_their_seed(index):
    dataset = SceneConversationDataset(SEED_STRIDE, seed=2, shuffled=1.0)
    assert dataset.text_seed(index) // SEED_STRIDE == 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_zero_and_one(share):
    with pytest.raises(ValueError, match=r"shuffled=.* is not in \[0, 1\]"):
        SceneConversationDataset(4, shuffled=share)


def test_rows_are_in_the_format_that_conversations_are_loaded_in():
    rows = list(SceneConversationDataset(8, shuffled=0.5))
    loaded = load_conversations(Dataset.from_list(rows).cast_column("images", List(ImageFeature())), on_bad_row="raise")
    assert [loaded[index]["messages"] for index in range(8)] == [row["messages"] for row in rows]
    assert loaded["id"][:] == [row["id"] for row in rows]
