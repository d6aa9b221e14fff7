"""Questions are answered as greedy decoding answers them, and judged by kind beside what needs no image."""

import random

import numpy as np
import pytest
import tiny_multimodal as tiny
import torch

from compalign.data.scenes import QUESTION_KINDS, generate_scene, questions, render
from compalign.evaluation import Results, bootstrap_interval, evaluate_model
from compalign.evaluation.benchmarks.scene_questions import SceneQuestions
from compalign.evaluation.scorers.answers import AnswerScorer


@pytest.fixture
def model():
    return tiny.make_model("llava", torch.float64)


@pytest.fixture(scope="module")
def processor():
    return tiny.make_processor("llava")


def saying(model, token):
    """The model, but that one token is the likeliest wherever it is asked."""
    head = torch.nn.Linear(tiny.WIDTH, tiny.VOCABULARY, dtype=model.dtype)
    head.weight.data = model.lm_head.weight.data
    head.bias.data = 1000 * torch.nn.functional.one_hot(torch.tensor(token), tiny.VOCABULARY).to(model.dtype)
    model.lm_head = head
    return model


def test_an_answer_is_right_if_greedy_decoding_begins_with_it(model, processor):
    benchmark = SceneQuestions(scenes=6, image_size=48)
    (yes,) = processor.tokenizer(" yes", add_special_tokens=False)["input_ids"]
    results = evaluate_model(saying(model, yes), processor, [benchmark], batch_size=3, progress=False)
    right = [question.answer == "yes" for question in benchmark.asked]
    assert [row["correct"] for row in results.benchmarks["scenes_questions"].rows] == right
    assert 0 < results.metrics["scenes_questions/all_micro"] == np.mean(right) < 1
    assert results.encoded["image_batches"] == 6


def test_questions_are_those_of_the_test_scenes():
    benchmark = SceneQuestions(scenes=3, image_size=32)
    scenes = [generate_scene(seed, split="test") for seed in range(3)]
    assert benchmark.asked == [
        q for k, scene in enumerate(scenes) for q in questions(scene, random.Random(f"asked/{k}"))
    ]
    assert benchmark.images == [render(scene, 32) for scene in scenes]
    assert benchmark.image_groups[:, 0].tolist() == benchmark.scene_of.tolist()
    assert set(QUESTION_KINDS) == set(SceneQuestions(scenes=30, image_size=8).kinds)


def test_kinds_are_averaged_with_their_baselines():
    benchmark = SceneQuestions(scenes=60, image_size=8)
    correct = (benchmark.kinds == "count").astype(float)
    metrics, rows = benchmark.with_baseline("never", np.zeros(len(correct))).score(correct[:, None, None])
    assert metrics["count"].value == 1
    assert metrics["colour"].value == 0
    assert metrics["all_macro"].value == pytest.approx(1 / len(QUESTION_KINDS))
    assert metrics["all_micro"].value == correct.mean() == np.mean([row["correct"] for row in rows])
    assert metrics["relation"].chance == metrics["exists"].chance == 0.5
    assert metrics["colour"].chance == 1 / 8
    assert metrics["all_micro"].chance == pytest.approx(benchmark.chances.mean())
    usual = metrics["exists"].baselines["most frequent answer"]
    assert usual["strict"] == usual["half_credit"]
    assert 0.3 < usual["strict"] < 0.7
    assert metrics["all_macro"].baselines["never"]["strict"] == 0
    low, high = metrics["all_micro"].interval
    assert low < correct.mean() < high
    assert metrics["all_micro"].n == len(rows)
    expected = bootstrap_interval(correct, groups=benchmark.kinds, clusters=benchmark.scene_of)
    assert metrics["all_macro"].interval == expected != metrics["all_micro"].interval


def test_results_are_complete_and_survive_the_round_trip(model, processor, tmp_path):
    results = evaluate_model(model, processor, [SceneQuestions(3, 48)], name="tiny", progress=False)
    score = results.find("scenes_questions/all_micro")
    assert set(score.baselines) == {"most frequent answer", "tiny without the image"}
    results.to_json(tmp_path / "results.json")
    assert Results.from_json(tmp_path / "results.json").metrics == results.metrics


def test_the_blind_baseline_sees_no_image(model, processor, monkeypatch):
    shown, score = [], AnswerScorer.__call__
    monkeypatch.setattr(
        AnswerScorer, "__call__", lambda self, image, asked: shown.append(image) or score(self, image, asked)
    )
    benchmark = SceneQuestions(3, 48)
    evaluate_model(model, processor, [benchmark], blind=False, progress=False)
    assert shown == benchmark.images
    evaluate_model(model, processor, [benchmark], progress=False)
    assert shown == [*benchmark.images, *benchmark.images, None, None, None]


def test_cosines_are_no_answers():
    benchmark = SceneQuestions(2, 8)
    with pytest.raises(ValueError, match="scores must be 0 or 1"):
        benchmark.score(np.full((len(benchmark.asked), 1, 1), 0.3))


def test_no_scenes_are_refused():
    with pytest.raises(ValueError, match="scenes 0; must be at least 1"):
        SceneQuestions(0)
