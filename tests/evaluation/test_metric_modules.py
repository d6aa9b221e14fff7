"""The modules of the library `evaluate` give what our functions give, from a path and without a network."""

import pytest

from compalign.evaluation import caption_choice, recall_at_k, winoground_scores

evaluate = pytest.importorskip("evaluate")


@pytest.fixture
def load(repository):
    return lambda name: evaluate.load(str(repository / "evaluation" / "metric_modules" / f"{name}.py"))


def test_caption_choice(load):
    true, false = [0.3, 0.2, 0.1], [0.1, 0.2, 0.4]
    metric = load("caption_choice")
    assert isinstance(metric, evaluate.EvaluationModule)
    assert metric.compute(scores_true=true, scores_false=false) == caption_choice(true, false)
    metric.add_batch(scores_true=true[:1], scores_false=false[:1])
    metric.add_batch(scores_true=true[1:], scores_false=false[1:])
    assert metric.compute() == {"strict": 1 / 3, "half_credit": pytest.approx(1 / 2), "tie_rate": 1 / 3, "n": 3}


def test_winoground(load):
    scores = [[[0.3, 0.1], [0.2, 0.4]], [[0.3, 0.5], [0.2, 0.6]]]
    metric = load("winoground")
    metric.add_batch(scores=scores[:1])
    metric.add_batch(scores=scores[1:])
    assert metric.compute() == winoground_scores(scores) == {"text": 1.0, "image": 0.5, "group": 0.5}


def test_recall(load):
    similarity = [[0.5, 0.2, 0.1, 0.9], [0.4, 0.3, 0.8, 0.7]]
    metric = load("recall")
    metric.add_batch(similarity=similarity[:1])
    metric.add_batch(similarity=similarity[1:])
    found = metric.compute(image_of_caption=[0, 0, 1, 1], ks=[1, 2])
    assert found == {
        "image_to_text_recall_1": 0.5,
        "text_to_image_recall_1": 0.5,
        "image_to_text_recall_2": 1.0,
        "text_to_image_recall_2": 1.0,
    }
    expected = recall_at_k(similarity, [0, 0, 1, 1])
    found = metric.compute(similarity=similarity, image_of_caption=[0, 0, 1, 1])
    assert found["text_to_image_recall_5"] == expected["text_to_image"][5]


def test_bad_input_is_refused_as_by_the_function(load):
    with pytest.raises(ValueError, match="scores of shape"):
        load("winoground").compute(scores=[[[0.3, 0.1]]])
