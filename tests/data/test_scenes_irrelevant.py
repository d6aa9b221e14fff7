"""Sentences about no image: their share, and that they leave what is about the image as it is."""

import random

import pytest

from compalign.data.scenes import SceneConversationDataset
from compalign.data.scenes.conversations import scene_messages
from compalign.data.scenes.irrelevant import TEMPLATES, WORDS, irrelevant_sentence


def answers(seed, share):
    return [
        part["text"]
        for message in scene_messages(seed, irrelevant=share)
        if message["role"] == "assistant"
        for part in message["content"]
    ]


def words(texts):
    return sum(len(text.split()) for text in texts)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_the_share_of_words_is_the_one_asked_for(share):
    relevant = sum(words(answers(seed, 0.0)) for seed in range(2000))
    everything = sum(words(answers(seed, share)) for seed in range(2000))
    assert 1 - relevant / everything == pytest.approx(share, abs=0.05)


def test_what_is_about_the_image_stays_as_it_is():
    for seed in range(200):
        mixed = " . ".join(answers(seed, 0.75))
        assert all(answer in mixed for answer in answers(seed, 0.0))
        first = scene_messages(seed, irrelevant=0.75)[0]["content"]
        assert [part["type"] for part in first] == ["image", "text"]


def test_a_dataset_hands_its_share_on():
    plain, mixed = SceneConversationDataset(50, irrelevant=0.0), SceneConversationDataset(50, irrelevant=0.75)
    assert sum(len(row["messages"]) for row in mixed) > sum(len(row["messages"]) for row in plain)
    assert mixed[3]["images"][0].tobytes() == plain[3]["images"][0].tobytes()
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"irrelevant=.* is not in \[0, 1\)"):
            SceneConversationDataset(4, irrelevant=share)


def test_every_template_is_filled():
    drawn = {irrelevant_sentence(random.Random(seed)) for seed in range(3000)}
    assert len(drawn) > 1500
    assert not any("{" in sentence for sentence in drawn)
    starts = {template.split("{")[0].strip() for template in TEMPLATES} - {""}
    assert all(any(sentence.startswith(start) for sentence in drawn) for start in starts)
    said = {word for sentence in drawn for word in sentence.split()}
    assert all(set(options) <= said for options in WORDS.values())
