"""SugarCrepe++ on its released files: sizes, both tests, and the blind integers."""

import json
import shutil

import numpy as np
import pytest
from annotated import as_groups, blind_counts, touch_images, values

from compalign.evaluation import encode_references, evaluate_model
from compalign.evaluation.benchmarks import SugarCrepePP

SUBSET = {"replace_obj": 51, "replace_att": 28, "replace_rel": 47, "swap_obj": 11, "swap_att": 23}
# n, then right answers of both paraphrases shorter than the negative (ITT) and of word overlap (TOT): counted on the
# released files, independently of this library.
BLIND = {
    "replace_obj": (1652, 140, 386),
    "replace_att": (788, 66, 151),
    "replace_rel": (1406, 303, 428),
    "swap_obj": (245, 9, 12),
    "swap_att": (666, 33, 93),
}


@pytest.fixture(scope="session")
def complete(shared, tmp_path_factory):
    """The complete annotations, with empty files for images."""
    annotations = shared / "data" / "annotations" / "sugar_crepe_pp"
    names = [record["filename"] for kind in BLIND for record in json.loads((annotations / f"{kind}.json").read_text())]
    return SugarCrepePP(annotations, touch_images(tmp_path_factory.mktemp("val2017"), names))


@pytest.fixture
def subset(shared):
    """The items on the shipped photographs."""
    coco = shared / "data" / "coco_by"
    return SugarCrepePP(coco / "sugarcrepe_pp", coco / "images_256")


def text_matrix(true_pair, first, second):
    """Cosines between the texts of items: of the two true captions, and of each with the false one."""
    matrix = np.ones((len(true_pair), 3, 3))
    for (one, other), cosines in (((0, 1), true_pair), ((0, 2), first), ((1, 2), second)):
        matrix[:, one, other] = matrix[:, other, one] = cosines
    return matrix


def test_the_complete_set_has_the_official_sizes(complete):
    assert (complete.n_found, complete.n_listed, len(set(complete.images)), len(set(complete.texts))) == (
        4757,
        4757,
        1542,
        13_189,
    )
    assert complete.notes == complete.missing_images == []


def test_blind_baselines_give_the_known_integers(complete):
    metrics, _ = complete.score(np.zeros((4757, 3, 1)), np.zeros((4757, 3, 3)))
    for kind, (n, shorter, overlap) in BLIND.items():
        assert blind_counts(metrics[f"itt_{kind}"], "shorter text")[:2] == (n, shorter)
        assert blind_counts(metrics[f"tot_{kind}"], "word overlap")[:2] == (n, overlap)


def test_image_to_text_needs_both_true_captions_above_the_false_one(subset):
    scores = np.zeros((160, 3))
    scores[:, 2] = 0.5
    scores[:40, :2] = [0.9, 0.8]
    scores[40:90, :2] = [0.9, 0.1]  # the first alone
    scores[90:120, :2] = [0.1, 0.9]  # the second alone
    scores[120:130, :2] = [0.9, 0.5]  # a tie is a miss
    metrics, rows = subset.score(as_groups(scores), np.zeros((160, 3, 3)))
    assert metrics["itt_all_micro"].value == 40 / 160
    assert metrics["itt_first_all_micro"].value == 100 / 160
    assert metrics["itt_second_all_micro"].value == 70 / 160
    assert metrics["itt_all_micro"].tie_rate == 10 / 160
    assert sum(row["correct"] for row in rows) == 40
    assert [metrics[f"{test}_all_micro"].chance for test in ("itt", "itt_first", "tot")] == [1 / 3, 1 / 2, 1 / 3]


def test_text_only_needs_the_true_captions_closer_to_each_other_than_to_the_false_one(subset):
    true_pair, first, second = np.full(160, 0.6), np.full(160, 0.5), np.full(160, 0.5)
    first[:30] = 0.7
    second[30:70] = 0.7
    second[70:80] = 0.6  # a tie is a miss
    metrics, rows = subset.score(np.zeros((160, 3, 1)), text_matrix(true_pair, first, second))
    assert metrics["tot_all_micro"].value == 80 / 160
    assert metrics["tot_all_micro"].tie_rate == 10 / 160
    assert rows[0]["text_scores"] == [0.6, 0.7, 0.5]


def test_averages_over_files_are_micro_and_macro(subset):
    right = subset.kinds == "replace_att"
    metrics, _ = subset.score(as_groups(np.stack([right, right, ~right], axis=1)), np.zeros((160, 3, 3)))
    found = values(metrics)
    assert found["itt_replace_micro"] == pytest.approx(28 / (51 + 28 + 47))
    assert (found["itt_replace_macro"], found["itt_all_macro"]) == pytest.approx((1 / 3, 1 / 5))
    assert set(subset.columns) <= set(found)


def test_the_subset_is_said_to_be_one(subset):
    assert {str(kind): int((subset.kinds == kind).sum()) for kind in np.unique(subset.kinds)} == SUBSET
    assert subset.notes == ["a subset: 160 of 4757 items of the complete set"]


def test_photographs_and_texts_are_scored_as_by_a_plain_loop(subset, model, processor):
    results = evaluate_model(model, processor, [subset], progress=False)
    rows = results.benchmarks["sugarcrepe_pp"].rows
    for position in range(0, 160, 40):
        item, row = subset.items[position], rows[position]
        plain = encode_references(model, processor, [item.image], item.captions, batch_size=1, progress=False)
        texts = plain.text_features
        # Float32 rounding of cosines.
        np.testing.assert_allclose(row["scores"], (texts @ plain.image_features[0]).numpy(), atol=2e-6)
        expected = [float(texts[one] @ texts[other]) for one, other in ((0, 1), (0, 2), (1, 2))]
        np.testing.assert_allclose(row["text_scores"], expected, atol=2e-6)
    hits = [row["text_scores"][0] > max(row["text_scores"][1:]) for row in rows]
    assert results.metrics["sugarcrepe_pp/tot_all_micro"] == pytest.approx(np.mean(hits))


def test_missing_images_are_named_and_counted(shared):
    data = shared / "data"
    arguments = (data / "annotations" / "sugar_crepe_pp", data / "coco_by" / "images_256")
    with pytest.raises(ValueError, match=r"4597 of 4757 items left out: \d+ of 1542 images are missing, such as 0+\d+"):
        SugarCrepePP(*arguments)
    benchmark = SugarCrepePP(*arguments, minimum_coverage=0.03)
    assert (benchmark.n_found, benchmark.n_listed) == (160, 4757)


def test_a_complete_set_with_a_short_file_is_refused(shared, tmp_path):
    folder = shutil.copytree(
        shared / "data" / "annotations" / "sugar_crepe_pp", tmp_path / "data", copy_function=shutil.copyfile
    )
    records = json.loads((folder / "swap_obj.json").read_text())
    (folder / "swap_obj.json").write_text(json.dumps(records[1:]))
    with pytest.raises(ValueError, match=r"\{'swap_obj': 244\} items where the complete set has \{'swap_obj': 245\}"):
        SugarCrepePP(folder, tmp_path)
