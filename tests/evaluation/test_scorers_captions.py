"""Generative models score captions as plain loops do, each question once, whatever letters they prefer."""

import numpy as np
import pytest
import tiny_multimodal as tiny
import torch

from compalign.data.scenes import generate_scene, render
from compalign.evaluation import SceneComposition, SceneRetrieval, evaluate_model
from compalign.evaluation.benchmarks import SugarCrepePP
from compalign.evaluation.scorers.answers import AnswerScorer, ScoredAnswer
from compalign.evaluation.scorers.captions import (
    CaptionLikelihood,
    LetteredChoice,
    caption_likelihoods,
    choose_option,
    encode_conversations,
)

IMAGES = [render(generate_scene(seed), 48) for seed in (1, 2, 1)]
CAPTIONS = ["a red cat above a blue star", "a star", "a small blue star", "a star"]


@pytest.fixture
def model():
    return tiny.make_model("llava", torch.float64)


@pytest.fixture(scope="module")
def processor():
    return tiny.make_processor("llava")


@pytest.fixture
def asked(monkeypatch):
    """Every image and conversation that is scored."""
    seen, score = [], AnswerScorer.__call__

    def counted(self, image, conversations):
        seen.extend((None if image is None else image.tobytes(), pair) for pair in conversations)
        return score(self, image, conversations)

    monkeypatch.setattr(AnswerScorer, "__call__", counted)
    return seen


def test_likelihoods_are_those_of_each_pair_alone(model, processor):
    together = caption_likelihoods(model, processor, IMAGES, CAPTIONS, batch_size=2, progress=False)
    assert together.shape == (4, 3)
    assert together.dtype == np.float64
    for reduction, reduce in (("mean", np.mean), ("sum", np.sum)):
        found = caption_likelihoods(model, processor, IMAGES, CAPTIONS, "What?", reduction, progress=False)
        for column, image in enumerate(IMAGES):
            for row, caption in enumerate(CAPTIONS):
                (answer,) = AnswerScorer(model, processor, batch_size=1)(image, [("What?", caption)])
                assert found[row, column] == pytest.approx(reduce(answer.log_probs), abs=1e-9)
    assert np.array_equal(together[1], together[3])
    assert np.array_equal(together[:, 0], together[:, 2])


def test_each_distinct_pair_is_scored_once(model, processor, asked):
    caption_likelihoods(model, processor, IMAGES, CAPTIONS, progress=False)
    assert len(asked) == len(set(asked)) == 2 * 3


def test_pairs_that_no_group_compares_are_not_scored(model, processor, asked):
    groups = np.array([[0], [1]]), np.array([[0, 1], [1, 2]])
    method = CaptionLikelihood()
    encoded = encode_conversations(model, processor, IMAGES[:2], CAPTIONS, [groups], method, progress=False)
    whole = caption_likelihoods(model, processor, IMAGES[:2], CAPTIONS, progress=False)
    np.testing.assert_allclose(encoded.scores(*groups)[:, :, 0], [whole[:2, 0], whole[1:3, 1]], atol=1e-9)
    assert len(asked) == 4 + 6
    assert (encoded.counts["answers_scored"], encoded.counts["image_batches"]) == (4, 2)


def test_an_image_left_out_makes_no_difference_between_images(model, processor):
    blind = caption_likelihoods(model, processor, [None, None], CAPTIONS, progress=False)
    seen = caption_likelihoods(model, processor, IMAGES[:1], CAPTIONS, progress=False)
    assert np.array_equal(blind[:, 0], blind[:, 1])
    assert abs(blind[:, :1] - seen).max() > 0.01


# Lettered options


def letters(question):
    """The options of a question by their letters."""
    lines = (line.partition(". ") for line in question.splitlines() if line[1:2] == ".")
    return {letter: caption for letter, _, caption in lines}


def answered(log_probs):
    """An answer of one word and its end token."""
    return ScoredAnswer(np.array([log_probs, -100.0]), np.array([True, True]), words=1)


@pytest.mark.parametrize("captions", [("one", "two"), ("one", "two", "three", "four", "five")])
def test_every_caption_stands_once_at_each_place(captions):
    conversations = LetteredChoice().conversations(captions)
    assert len(conversations) == len(captions) ** 2
    places = {(letter, letters(question)[letter]) for question, letter in conversations}
    assert places == {(letter, caption) for letter in "ABCDE"[: len(captions)] for caption in captions}


def test_a_preferred_letter_gains_nothing_and_a_known_caption_wins():
    captions, choice = ("cat", "dog", "emu"), LetteredChoice()
    bias, knowledge = {"A": 0.0, "B": -3.0, "C": -9.0}, {"cat": 0.0, "dog": 0.25, "emu": -0.5}
    conversations = choice.conversations(captions)
    only_bias = [answered(bias[letter]) for _, letter in conversations]
    assert choice.scores(captions, only_bias) == [-4.0] * 3
    both = [answered(bias[letter] + knowledge[letters(question)[letter]]) for question, letter in conversations]
    assert choice.scores(captions, both) == [-4.0, -3.75, -4.5]


def test_options_of_the_same_words_are_level(model, processor):
    scores = choose_option(model, processor, IMAGES[:1], ["a star", "a red star", "a star"], progress=False)
    assert scores[0, 0] == scores[2, 0] != scores[1, 0]


def test_options_are_scored_as_questions_of_their_own(model, processor):
    pair = ["a red cat", "a blue star"]
    expected = np.zeros(2)
    for first, second in ((0, 1), (1, 0)):
        text = f"Which caption describes the image?\nA. {pair[first]}\nB. {pair[second]}\n" + LetteredChoice.request
        for letter, caption in zip("AB", (first, second), strict=True):
            (answer,) = AnswerScorer(model, processor)(IMAGES[0], [(text, letter)])
            expected[caption] += answer.log_probs[: answer.words].sum() / 2
    scores = choose_option(model, processor, IMAGES[:1], pair, batch_size=3, progress=False)
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-9)


def test_more_captions_than_letters_are_refused(model, processor):
    with pytest.raises(ValueError, match="27 captions of one image; at most 26"):
        choose_option(model, processor, IMAGES[:1], list(map(str, range(27))), progress=False)


# Benchmarks


@pytest.mark.parametrize("method", [CaptionLikelihood(), LetteredChoice()], ids=lambda method: type(method).__name__)
def test_benchmarks_score_generative_models_and_the_same_model_without_the_image(model, processor, method):
    benchmark = SceneComposition(count=4, image_size=48)
    results = evaluate_model(model, processor, [benchmark], method=method, name="tiny", progress=False)
    result = results.benchmarks["scenes_composition"]
    assert result.scores["swap_attribute"].n == 4
    assert set(result.scores["swap_attribute"].baselines) == {*benchmark.baseline_scores, "tiny without the image"}
    # Items come in pairs that exchange their captions: without the image one of each is right.
    assert result.scores["all_macro"].baselines["tiny without the image"]["half_credit"] == 0.5
    row, item = result.rows[5], benchmark.items[5]
    score = caption_likelihoods if isinstance(method, CaptionLikelihood) else choose_option
    np.testing.assert_allclose(
        row["scores"], score(model, processor, [item.image], item.captions, progress=False)[:, 0], atol=1e-9
    )
    assert results.preprocessing["text"]["method"] == type(method).__name__
    assert results.preprocessing["text"]["prompt"] == method.prompt
    assert results.activation["vision"] == "quick_gelu"


def test_an_image_that_two_benchmarks_share_is_read_once(model, processor, asked):
    class Again(SceneComposition):
        name = "again"

    benchmarks = [
        SceneComposition(count=4, image_size=48),
        Again(count=4, image_size=48),
        SceneRetrieval(count=4, image_size=48),
    ]
    results = evaluate_model(model, processor, benchmarks, blind=False, progress=False)
    assert len(asked) == len(set(asked)) == results.encoded["answers_scored"]
    assert results.benchmarks["scenes_composition"].scores == results.benchmarks["again"].scores
    assert results.encoded["image_batches"] == results.encoded["images_encoded"] == len({image for image, _ in asked})
    assert results.encoded["images_requested"] == 2 * 28 + 4


def test_benchmarks_that_need_embeddings_are_refused_before_anything_is_scored(model, processor, asked, monkeypatch):
    monkeypatch.setattr(SceneComposition, "compares_texts", SugarCrepePP.compares_texts)
    with pytest.raises(ValueError, match="tiny cannot be evaluated on scenes_composition: it compares texts with one"):
        evaluate_model(model, processor, [SceneComposition(count=2)], name="tiny", progress=False)
    with pytest.raises(ValueError, match="an ensemble of 2 prompts"):
        caption_likelihoods(model, processor, IMAGES, [("a star", "one star")], progress=False)
    assert not asked


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match="reduction 'max'; must be one of mean, sum"):
        CaptionLikelihood(reduction="max")
