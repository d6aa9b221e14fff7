"""Every metric against values worked out by hand, with ties forced both ways."""

import doctest
import math

import numpy as np
import pytest
import torch

from compalign.evaluation import (
    bootstrap_interval,
    caption_choice,
    mean_per_group,
    metrics,
    recall_at_k,
    retrieval_ranks,
    winoground_scores,
    zero_shot_accuracy,
)


def hash_embedding(text: str, dim: int = 16) -> np.ndarray:
    """A unit vector that is a function of the text alone."""
    vector = np.random.default_rng(list(text.encode())).standard_normal(dim)
    return vector / np.linalg.norm(vector)


def test_a_tie_is_a_miss_or_half_a_hit():
    assert caption_choice([3, 2, 1, 0], [1, 2, 2, 0]) == {"strict": 0.25, "half_credit": 0.5, "tie_rate": 0.5, "n": 4}


def test_a_model_that_ignores_the_caption_has_only_ties():
    assert caption_choice(np.zeros(5), np.zeros(5)) == {"strict": 0.0, "half_credit": 0.5, "tie_rate": 1.0, "n": 5}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_of_any_precision_score_like_arrays(dtype):
    true, false = torch.tensor([0.5, 0.25, 1.0], dtype=dtype), torch.tensor([0.25, 0.25, 2.0], dtype=dtype)
    choice = caption_choice(true.requires_grad_(), false)
    assert choice == caption_choice([0.5, 0.25, 1.0], [0.25, 0.25, 2.0])
    assert all(type(value) in (float, int) for value in choice.values())


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        caption_choice([math.nan, 1.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="NaN"):
        recall_at_k(np.full((2, 2), np.nan), [0, 1])


@pytest.mark.parametrize(("true", "false"), [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[0.0]])])
def test_choice_refuses_other_shapes(true, false):
    with pytest.raises(ValueError, match="must be"):
        caption_choice(true, false)


@pytest.mark.parametrize(
    ("scores", "text", "image"),
    [
        ([[2, 1], [1, 2]], 1, 1),
        # Both images prefer caption 0 (text fails); both captions prefer their own image.
        ([[9, 4], [1, 3]], 0, 1),
        # Both captions prefer image 0 (image fails); both images prefer their own caption.
        ([[9, 1], [4, 3]], 1, 0),
        # One tie spoils either.
        ([[2, 1], [2, 3]], 0, 1),
        ([[2, 2], [1, 3]], 1, 0),
        ([[1, 1], [1, 1]], 0, 0),
    ],
)
def test_winoground_tells_text_from_image(scores, text, image):
    assert winoground_scores([scores]) == {"text": text, "image": image, "group": text * image}


def test_winoground_averages_over_items():
    items = [[[2, 1], [1, 2]], [[9, 4], [1, 3]], [[9, 1], [4, 3]], [[0, 0], [0, 0]]]
    assert winoground_scores(torch.tensor(items)) == {"text": 0.5, "image": 0.5, "group": 0.25}


def test_winoground_is_at_chance_for_random_scores():
    scores = np.random.default_rng(0).standard_normal((60_000, 2, 2))
    chance = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}
    assert winoground_scores(scores) == pytest.approx(chance, abs=0.006)  # three standard errors


# Rows are images, columns captions; the worked example of recall_at_k.
EXAMPLE = [[0.5, 0.2, 0.1, 0.9], [0.4, 0.3, 0.8, 0.7]]


def test_recall_of_the_worked_example():
    recall = recall_at_k(EXAMPLE, image_of_caption=[0, 0, 1, 1], ks=(1, 2))
    assert recall == {"image_to_text": {1: 0.5, 2: 1.0}, "text_to_image": {1: 0.5, 2: 1.0}}


def test_the_docstrings_of_the_metrics_are_true():
    outcome = doctest.testmod(metrics)
    assert (outcome.attempted, outcome.failed) == (1, 0)


def test_recall_goes_by_image_of_caption_and_not_by_position():
    recall = recall_at_k(EXAMPLE, image_of_caption=[1, 1, 0, 0], ks=(1,))
    # Image 0 finds its caption 3 first; image 1 finds caption 2, of image 0. Captions 1 and 3 find their images.
    assert recall == {"image_to_text": {1: 0.5}, "text_to_image": {1: 0.5}}


def test_rank_is_the_number_above_plus_half_of_those_level():
    ranks = retrieval_ranks([[0.5, 0.7, 0.5, 0.5]] + [[0.5, 0.0, 0.5, 0.9]] * 3, [0, 1, 2, 3])
    # Caption 0 is level with three wrong images. Image 0 has one wrong caption above its own, and two level.
    assert ranks["text_to_image"].tolist() == [1.5, 2.0, 1.5, 1.0]
    assert ranks["image_to_text"].tolist() == [2.0, 3.0, 1.5, 0.0]


def test_own_captions_do_not_compete_with_each_other():
    ranks = retrieval_ranks([[0.5, 0.5, 0.5, 0.4], [0.1, 0.1, 0.1, 0.9]], [0, 0, 0, 1])
    assert ranks["image_to_text"].tolist() == [0.0, 0.0]


def test_a_constant_matrix_is_ranked_in_the_middle():
    ranks = retrieval_ranks(np.ones((11, 11)), range(11))
    assert all((rank == 5).all() for rank in ranks.values())


def test_recall_does_not_depend_on_the_order_of_the_candidates():
    generator = np.random.default_rng(0)
    similarity = generator.integers(0, 4, (6, 15)).astype(float)  # many ties
    image_of_caption = np.arange(15) % 6
    images, captions = generator.permutation(6), generator.permutation(15)
    shuffled = recall_at_k(similarity[images][:, captions], np.argsort(images)[image_of_caption[captions]])
    assert shuffled == recall_at_k(similarity, image_of_caption)


def test_recall_equals_a_search_by_sorting():
    """An independent way to the same number, for scores without ties."""
    image_of_caption = np.arange(20) % 7
    images = np.stack([hash_embedding(f"image {k}") for k in range(7)])
    captions = np.stack([hash_embedding(f"caption {k}") for k in range(20)])
    similarity = images @ captions.T
    found_images = image_of_caption[np.argsort(-similarity, axis=1)]  # (images, captions): whose caption is k-th
    order = np.argsort(-similarity, axis=0)  # (images, captions): which image is k-th
    for k in (1, 3, 7):
        recall = recall_at_k(similarity, image_of_caption, ks=(k,))
        by_image = (found_images[:, :k] == np.arange(7)[:, None]).any(axis=1).mean()
        by_caption = (order[:k] == image_of_caption).any(axis=0).mean()
        assert recall == {"image_to_text": {k: by_image}, "text_to_image": {k: by_caption}}


@pytest.mark.parametrize(
    ("shape", "image_of_caption", "ks"),
    [((4, 2), [0, 0, 1, 1], (1,)), ((2, 2), [0, 0], (1,)), ((2, 3), [0, 1, 2], (1,)), ((2, 2), [0, 1], (0,))],
    ids=["transposed", "image without caption", "image out of range", "depth below 1"],
)
def test_recall_refuses_what_it_cannot_mean(shape, image_of_caption, ks):
    with pytest.raises(ValueError, match="must"):
        recall_at_k(np.zeros(shape), image_of_caption, ks)


def test_zero_shot_counts_images_and_classes():
    similarity = [[2, 1, 0], [2, 1, 0], [0, 2, 2], [0, 1, 2]]
    # Class 0: one of two; class 1: its only image ties; class 2 right.
    accuracy = zero_shot_accuracy(similarity, [0, 0, 1, 2])
    assert accuracy == pytest.approx({"top1": 3 / 4, "mean_per_class": 2 / 3})
    accuracy = zero_shot_accuracy(similarity, [0, 1, 1, 2])
    assert accuracy == pytest.approx({"top1": 2 / 4, "mean_per_class": (1 + 0 + 1) / 3})


def test_zero_shot_refuses_a_label_that_is_no_class():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        zero_shot_accuracy(np.zeros((1, 2)), [2])


def test_mean_per_group_weighs_groups_equally():
    assert mean_per_group([1, 1, 1, 0], ["a", "a", "a", "b"]) == 0.5


def test_bootstrap_interval_has_the_width_of_the_binomial():
    hits = np.arange(400) % 4 == 0
    low, high = bootstrap_interval(hits)
    half_width = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.25 - half_width, 0.25 + half_width), abs=0.006)


def test_bootstrap_interval_equals_resampling_one_by_one():
    """The multinomial draw and the textbook resampling have the same distribution, fractional credits included."""
    credits = np.array([0, 0.5, 1, 1, 1, 0.5, 0, 1, 1, 1] * 8)
    draws = np.random.default_rng(1).choice(credits, (20_000, len(credits))).mean(axis=1)
    assert bootstrap_interval(credits, resamples=20_000) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)


def test_bootstrap_interval_of_a_macro_mean_is_centred_on_it():
    hits, groups = np.array([1] * 900 + [0] * 50 + [1] * 50), np.array([0] * 900 + [1] * 100)
    low, high = bootstrap_interval(hits, groups)
    assert (low + high) / 2 == pytest.approx(mean_per_group(hits, groups), abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 * math.sqrt(0.25 / 100), rel=0.1)


def test_bootstrap_interval_counts_clusters_and_not_items():
    """Ten copies of each item, drawn together, are worth no more than the items themselves."""
    hits, image = np.arange(40) % 4 == 0, np.arange(40)
    copied = bootstrap_interval(np.repeat(hits, 10), clusters=np.repeat(image, 10))
    assert copied == pytest.approx(bootstrap_interval(hits))
    assert bootstrap_interval(np.repeat(hits, 10)) != pytest.approx(copied, abs=0.05)


def test_bootstrap_interval_of_unequal_clusters_equals_drawing_them_one_by_one():
    generator = np.random.default_rng(2)
    image = generator.integers(0, 30, 100)
    credits = generator.random(100) < 0.2 + 0.6 * (image % 2)
    clusters = [credits[image == k] for k in np.unique(image)]
    draws = [
        np.concatenate([clusters[k] for k in generator.integers(0, len(clusters), len(clusters))]).mean()
        for _ in range(4000)
    ]
    low, high = bootstrap_interval(credits, clusters=image, resamples=20_000)
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)


def test_bootstrap_interval_is_a_function_of_the_seed():
    hits = np.arange(50) % 3 == 0
    assert bootstrap_interval(hits) == bootstrap_interval(hits)
    assert bootstrap_interval(hits) != bootstrap_interval(hits, seed=1)


def test_bootstrap_interval_of_a_perfect_score_is_a_point_whatever_the_clusters():
    assert bootstrap_interval(np.ones(6), clusters=[0, 0, 0, 1, 2, 2]) == (1.0, 1.0)
