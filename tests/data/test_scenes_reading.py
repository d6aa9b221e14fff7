"""Tags and descriptions are true of their scene, and tags answer the questions asked about them."""

import re

import pytest
from scene_reader import answer_of, read_thing

from compalign.data.scenes import SceneReadingDataset, generate_scene
from compalign.data.scenes.conversations import CAPTION_REQUESTS
from compalign.data.scenes.reading import READABLE

DATASET = SceneReadingDataset(200, seed=3)
ROWS = list(DATASET)


def exchanges(row):
    """The tags with the description, and pairs of question and answer."""
    said = [message["content"][0]["text"] for message in row["messages"]]
    tags, _, request = said[0].partition(" . ")
    assert request in CAPTION_REQUESTS
    return (tags, said[1]), list(zip(said[2::2], said[3::2], strict=True))


def test_tags_and_description_name_every_object_once_as_it_is():
    for index, row in enumerate(ROWS):
        objects = generate_scene(DATASET.scene_seed(index)).objects
        (tags, description), _ = exchanges(row)
        assert sorted(read_thing(text)[:3] for text in description.split(" and ")) == sorted(
            (item.noun, item.colour, item.size) for item in objects
        )
        assert sorted(tag for thing in tags.split(" and ") for tag in thing.split(" , ")[:3] if tag) == sorted(
            tag
            for item in objects
            for tag in (f"{item.colour} {item.noun}", f"{item.noun} {item.colour}", f"{item.noun} {item.size}")
        )


def test_answers_are_right_and_stand_in_the_text():
    places = {"left", "right", "top", "bottom"}
    for index, row in enumerate(ROWS):
        assert row["images"] == []
        (tags, _), asked = exchanges(row)
        for question, answer in asked:
            assert answer == answer_of(question, generate_scene(DATASET.scene_seed(index)))
            if re.match("what|is the ", question) and answer not in places:
                assert answer in tags.split()
        assert len(asked) <= len(READABLE)


def test_rows_are_a_function_of_split_seed_and_index():
    assert [row["messages"] for row in SceneReadingDataset(200, seed=3)] == [row["messages"] for row in ROWS]
    assert SceneReadingDataset(1, "test")[0]["messages"] != SceneReadingDataset(1)[0]["messages"]
    with pytest.raises(IndexError, match="index is 5"):
        SceneReadingDataset(5)[5]
