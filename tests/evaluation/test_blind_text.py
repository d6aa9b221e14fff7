"""Blind baselines against closed forms, and against the published files."""

import json
import math

import numpy as np
import pytest

from compalign.evaluation import NgramLanguageModel, blind_baselines, caption_choice, chance_recall, shorter_text
from compalign.evaluation.blind.text import word_overlap

# n, items won strictly by the shorter text, ties: counted on the released files, independently of this library.
SHORTER_TEXT = {
    "add_att": (692, 689, 1),
    "add_obj": (2062, 2037, 7),
    "replace_att": (788, 349, 144),
    "replace_obj": (1652, 746, 177),
    "replace_rel": (1406, 832, 141),
    "swap_att": (666, 144, 367),
    "swap_obj": (245, 64, 141),
}


@pytest.mark.parametrize("kind", SHORTER_TEXT)
def test_shorter_text_on_sugarcrepe_gives_the_known_integers(shared, kind):
    items = json.loads((shared / "data" / "annotations" / "sugar_crepe" / f"{kind}.json").read_text()).values()
    scores = blind_baselines([(item["caption"], item["negative_caption"]) for item in items])["shorter text"]
    choice = caption_choice(scores[:, 0], scores[:, 1])
    n = choice["n"]
    assert (n, round(n * choice["strict"]), round(n * choice["tie_rate"])) == SHORTER_TEXT[kind]


def test_shorter_text_wins_by_characters():
    assert shorter_text(["a b c", "abcdef", ""]).tolist() == [-5, -6, 0]


def test_word_overlap_is_shared_words_over_all_words():
    overlap = word_overlap(["A red bus.", "a bus, red", "a blue bus passes", "", "!"])
    assert overlap[0].tolist() == [1, 1, 2 / 5, 0, 0]
    assert (overlap == overlap.T).all()
    assert overlap[3, 4] == 0


def test_unigram_likelihood_is_the_smoothed_share_of_each_word():
    # Counts: a 3, cat 2, dog 1, end 2: 8 tokens; vocabulary of 5 with the unknown word.
    language_model = NgramLanguageModel(1, ["A cat, a cat.", "a dog"])
    p = {"a": 4 / 13, "cat": 3 / 13, "dog": 2 / 13, "end": 3 / 13, "unknown": 1 / 13}
    expected = [p["a"] * p["dog"] * p["end"], p["end"], p["unknown"] * p["cat"] * p["end"]]
    assert language_model(["a DOG!", "", "every cat"]) == pytest.approx(np.log(expected))


def test_bigram_likelihood_conditions_on_the_word_before():
    # "a" is followed by cat twice and by dog once; both captions start with "a".
    language_model = NgramLanguageModel(2, ["a cat a cat", "a dog"])
    expected = (2 + 1) / (2 + 5) * (2 + 1) / (3 + 5) * (1 + 1) / (2 + 5)
    assert language_model(["a cat"]) == pytest.approx(math.log(expected))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_smoothed_probabilities_of_the_next_word_sum_to_one(order):
    language_model = NgramLanguageModel(order, ["a cat sees a dog", "a dog sees"])
    for context in {ngram[:-1] for ngram in language_model.ngrams}:
        total = sum(math.exp(language_model._log_probability((*context, word))) for word in language_model.vocabulary)
        assert total == pytest.approx(1)


def test_word_order_matters_to_bigrams_only():
    texts, captions = ["a cat on a mat", "mat a on cat a"], ["a cat on a mat"]
    unigram, bigram = NgramLanguageModel(1, captions)(texts), NgramLanguageModel(2, captions)(texts)
    assert unigram[0] == pytest.approx(unigram[1])
    assert bigram[0] > bigram[1] + 1


@pytest.mark.parametrize(("order", "captions"), [(0, ["a"]), (1, [])])
def test_a_language_model_needs_captions_and_an_order(order, captions):
    with pytest.raises(ValueError, match=r"order 0|no captions"):
        NgramLanguageModel(order, captions)


def test_language_models_join_only_where_there_are_training_captions():
    options = [("a cat", "a dog", "the dog")]
    assert list(blind_baselines(options)) == ["shorter text"]
    fitted = blind_baselines(options, training_captions=["a cat"])
    assert list(fitted) == ["shorter text", "unigram likelihood", "bigram likelihood"]
    assert all(scores.shape == (1, 3) and scores[0, 0] > scores[0, 2] for scores in fitted.values())


@pytest.mark.parametrize(("candidates", "correct", "k"), [(300, 1, 5), (20, 5, 1), (20, 5, 3), (4, 1, 10)])
def test_chance_recall_is_the_share_of_random_orders(candidates, correct, k):
    ranks = np.random.default_rng(0).random((20_000, candidates)).argsort(axis=1).argsort(axis=1)
    # Three standard errors of 20,000 orders.
    assert chance_recall(candidates, correct, k) == pytest.approx((ranks[:, :correct].min(1) < k).mean(), abs=0.011)
