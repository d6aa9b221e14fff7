"""Benchmarks ask for the right comparisons and turn scores into the right numbers."""

import json
import logging
import shutil

import numpy as np
import pytest
from annotated import as_groups, touch_images

from compalign.data.scenes import NEGATIVE_KINDS, composition_items
from compalign.evaluation import (
    BENCHMARKS,
    CaptionChoice,
    ChoiceItem,
    SceneComposition,
    SceneParaphrases,
    SceneRetrieval,
    SceneZeroShot,
    SugarCrepe,
)

SUBSET = {
    "replace_obj": 51,
    "replace_att": 28,
    "replace_rel": 47,
    "swap_obj": 11,
    "swap_att": 23,
    "add_obj": 73,
    "add_att": 22,
}


class Choice(CaptionChoice):
    """Two kinds in one family."""

    name, suite, columns = "choice", "suite", {"x_one": "one"}
    families = {"x": ["x_one", "x_two"], "y": ["y_one"]}  # noqa: RUF012


def choice_items(kinds):
    return [ChoiceItem(str(k), kind, b"", ("true", "wrong", "false"), str(k)) for k, kind in enumerate(kinds)]


def test_choice_is_strict_against_the_best_false_caption_and_averages_both_ways():
    benchmark = Choice(choice_items(["x_one", "x_two", "x_two", "x_two", "y_one"]))
    metrics, rows = benchmark.score(as_groups([[3, 1, 2], [3, 1, 3], [1, 3, 0], [5, 4, 4], [0, 0, 0]]))
    assert {name: score.value for name, score in metrics.items()} == pytest.approx(
        {"x_one": 1, "x_two": 1 / 3, "y_one": 0, "x_micro": 1 / 2, "x_macro": 2 / 3, "y_micro": 0, "y_macro": 0}
    )
    assert metrics["x_two"].tie_rate == pytest.approx(1 / 3)
    assert metrics["x_macro"].half_credit == pytest.approx((1 + 1 / 2) / 2)
    assert (metrics["x_two"].n, metrics["x_micro"].n, metrics["x_macro"].n) == (3, 4, 4)
    assert {score.chance for score in metrics.values()} == {1 / 3}
    assert [row["correct"] for row in rows] == [True, False, False, True, False]


def test_baselines_are_averaged_like_the_model():
    benchmark = Choice(choice_items(["x_one", "x_two", "x_two"]))
    metrics, _ = benchmark.score(as_groups(np.zeros((3, 3))))
    # "true" and "wrong", "false": four characters against five.
    assert metrics["x_macro"].baselines["shorter text"] == {"strict": 1, "half_credit": 1, "tie_rate": 0, "n": 3}


def test_rows_add_up_to_the_printed_scores():
    benchmark = SceneComposition(count=10)
    scores = np.random.default_rng(0).integers(0, 3, (70, 2, 1)).astype(np.float32)
    metrics, rows = benchmark.score(scores)
    for kind in NEGATIVE_KINDS:
        again = [row["scores"][0] > row["scores"][1] for row in rows if row["kind"] == kind]
        assert again == [row["correct"] for row in rows if row["kind"] == kind]
        assert metrics[kind].value == np.mean(again)
    assert metrics["all_macro"].value == pytest.approx(np.mean([metrics[kind].value for kind in NEGATIVE_KINDS]))


def test_every_interval_contains_its_score():
    scores = np.random.default_rng(0).standard_normal((70, 2, 1))
    metrics, _ = SceneComposition(count=10).score(scores)
    assert all(score.interval[0] <= score.value <= score.interval[1] for score in metrics.values())


def test_a_model_blind_to_the_image_has_no_uncertainty_on_scenes():
    """It is right on exactly one item of each pair, whichever pairs are drawn."""
    benchmark = SceneComposition(count=10)
    alphabetical = sorted(set(benchmark.texts))
    blind = [[alphabetical.index(text) for text in item.captions] for item in benchmark.items]
    metrics, _ = benchmark.score(as_groups(blind))
    assert {(score.value, *score.interval) for score in metrics.values()} == {(0.5, 0.5, 0.5)}


def test_no_blind_baseline_beats_chance_on_scenes():
    metrics, _ = SceneComposition(count=40).score(np.zeros((280, 2, 1)))
    for score in metrics.values():
        assert len(score.baselines) == 3
        assert [baseline["half_credit"] for baseline in score.baselines.values()] == pytest.approx([0.5] * 3)


def test_scores_by_the_changed_part_split_those_of_their_kind():
    benchmark = SceneComposition(count=20)
    scores = np.random.default_rng(0).standard_normal((140, 2, 1))
    metrics, rows = benchmark.score(scores)
    for kind in NEGATIVE_KINDS:
        parts = {name: score for name, score in metrics.items() if name.startswith(f"{kind}/")}
        assert sum(part.n for part in parts.values()) == metrics[kind].n == 20
        assert sum(part.value * part.n for part in parts.values()) == pytest.approx(20 * metrics[kind].value)
        correct = [row["correct"] for row in rows if row["kind"] == kind]
        for name, part in parts.items():
            items = composition_items(kind, 20)
            again = [hit for hit, item in zip(correct, items, strict=True) if name == f"{kind}/{item.changed}"]
            assert (part.n, part.value, part.chance) == (len(again), pytest.approx(np.mean(again)), 1 / 2)


def test_paraphrases_are_ranked_on_the_scenes_of_the_composition_benchmark():
    paraphrases, composition = SceneParaphrases(count=10), SceneComposition(count=10)
    assert paraphrases.scenes == composition.scenes
    for item, other in zip(paraphrases.items, composition.items, strict=True):
        assert (item.kind, item.cluster, item.captions[::2]) == (other.kind, other.cluster, other.captions)
    scores, alike = np.tile([2.0, 1.0, 0.0], (70, 1))[:, :, None], np.ones((70, 3, 3))
    metrics, _ = paraphrases.score(scores, alike)
    assert {score.value for name, score in metrics.items() if name.startswith("itt")} == {1.0}
    assert {score.value for name, score in metrics.items() if name.startswith("tot")} == {0.0}  # ties are misses
    scores[:, 1] = -1.0
    metrics, rows = paraphrases.score(scores, alike)
    assert metrics["itt_first_all_micro"].value == 1
    assert metrics["itt_all_micro"].value == metrics["itt_second_all_micro"].value == 0
    assert set(SceneParaphrases.columns) <= metrics.keys()
    assert len(rows) == 70


@pytest.mark.parametrize("benchmark", [SceneComposition, SceneParaphrases])
def test_an_odd_count_would_break_a_pair(benchmark):
    with pytest.raises(ValueError, match="count 5"):
        benchmark(count=5)


def test_a_perfect_zero_shot_model_is_right_everywhere_and_a_constant_one_nowhere():
    benchmark = SceneZeroShot(count=640)
    assert len(benchmark.texts) == 320
    perfect = (np.arange(320)[:, None] == benchmark.labels).astype(np.float32)[None]  # (1, classes, images)
    metrics, rows = benchmark.score(perfect)
    assert {name: score.value for name, score in metrics.items()} == dict.fromkeys(
        ("top1", "seen", "held_out", "mean_per_class"), 1.0
    )
    assert metrics["seen"].n + metrics["held_out"].n == metrics["top1"].n == len(rows) == 640
    assert metrics["top1"].chance == 1 / 320
    metrics, _ = benchmark.score(np.zeros((1, 320, 640)))
    assert {score.value for score in metrics.values()} == {0.0}


def test_zero_shot_keeps_seen_and_held_out_combinations_apart():
    benchmark = SceneZeroShot(count=320)
    held_out = np.array([benchmark.classes[label].held_out for label in benchmark.labels])
    scores = np.eye(320)[None] * ~held_out
    metrics, _ = benchmark.score(scores)
    assert (metrics["seen"].value, metrics["held_out"].value) == (1.0, 0.0)
    assert metrics["top1"].value == (~held_out).mean()


def test_retrieval_scores_both_directions_and_knows_chance():
    benchmark = SceneRetrieval(count=20, ks=(1, 5))
    scores = np.zeros((1, 20, 20))  # (1, captions, images)
    scores[0, :, 0] = -1  # every caption prefers all images to image 0
    scores[0, 0, 0] = 1  # but for its own
    metrics, rows = benchmark.score(scores)
    assert {name: score.value for name, score in metrics.items()} == {
        "image_to_text_recall_1": 1 / 20,
        "text_to_image_recall_1": 1 / 20,
        "image_to_text_recall_5": 1 / 20,
        "text_to_image_recall_5": 1 / 20,
    }
    assert metrics["image_to_text_recall_5"].chance == pytest.approx(5 / 20)
    assert len(rows) == 40


def test_retrieval_directions_are_not_exchanged():
    scores = np.zeros((1, 20, 20))  # (1, captions, images)
    scores[0, np.arange(20), np.arange(20)] = 1
    scores[0, 3] = 2  # caption 3 is every image's favourite
    metrics, _ = SceneRetrieval(count=20, ks=(1,)).score(scores)
    assert metrics["image_to_text_recall_1"].value == 1 / 20
    assert metrics["text_to_image_recall_1"].value == 19 / 20


@pytest.mark.parametrize("benchmark", [SceneComposition(count=4), SceneZeroShot(64), SceneRetrieval(4)])
def test_benchmarks_are_filed_under_their_names_and_show_scores_they_have(benchmark):
    assert BENCHMARKS[benchmark.name] is type(benchmark)
    shape = (*benchmark.text_groups.shape, benchmark.image_groups.shape[1])
    metrics, _ = benchmark.score(np.zeros(shape))
    assert set(benchmark.columns) <= set(metrics)


@pytest.fixture
def annotations(shared, tmp_path):
    """A writable copy of the complete annotation files."""
    return shutil.copytree(
        shared / "data" / "annotations" / "sugar_crepe", tmp_path / "data", copy_function=shutil.copyfile
    )


def edit(path, change):
    """Rewrite one annotation file."""
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_sugarcrepe_subset_is_read_whole_and_said_to_be_one(shared):
    coco = shared / "data" / "coco_by"
    benchmark = SugarCrepe(coco / "sugarcrepe", coco / "images_256")
    assert {str(kind): int((benchmark.kinds == kind).sum()) for kind in np.unique(benchmark.kinds)} == SUBSET
    assert (benchmark.n_found, benchmark.n_listed, len(set(benchmark.images))) == (255, 255, 50)
    assert benchmark.notes == [
        "a subset: 255 of 7511 items of the complete set",
        "add_obj is nearly solved without the image: 100.0 % by shorter text",
    ]


def test_sugarcrepe_flags_the_two_kinds_that_length_alone_solves(annotations, tmp_path):
    files = [json.loads(path.read_text()).values() for path in annotations.glob("*.json")]
    images = touch_images(tmp_path / "images", [record["filename"] for records in files for record in records])
    benchmark = SugarCrepe(annotations, images)
    assert (benchmark.n_found, len(set(benchmark.images)), len(set(benchmark.texts))) == (7511, 1560, 11_844)
    assert benchmark.notes == [
        "add_obj is nearly solved without the image: 99.0 % by shorter text",
        "add_att is nearly solved without the image: 99.6 % by shorter text",
    ]


def test_sugarcrepe_averages_are_micro_inside_a_file_and_both_over_files(shared):
    coco = shared / "data" / "coco_by"
    benchmark = SugarCrepe(coco / "sugarcrepe", coco / "images_256")
    right = np.isin(benchmark.kinds, ["replace_obj", "swap_att"])
    metrics, _ = benchmark.score(as_groups(np.stack([right, ~right], axis=1)))
    values = {name: score.value for name, score in metrics.items()}
    assert values["replace_micro"] == pytest.approx(51 / (51 + 28 + 47))
    assert values["replace_macro"] == pytest.approx(1 / 3)
    assert values["swap_micro"] == pytest.approx(23 / 34)
    assert (values["swap_macro"], values["add_macro"], values["without_add_macro"]) == pytest.approx((0.5, 0, 2 / 5))
    assert set(benchmark.columns) <= set(values)


def test_sugarcrepe_names_missing_images_and_refuses_low_coverage(annotations, shared):
    images = shared / "data" / "coco_by" / "images_256"
    with pytest.raises(
        ValueError, match=r"\d+ of 7511 items left out: \d+ of 1560 images are missing, such as 0+\d+\.jpg"
    ):
        SugarCrepe(annotations, images)
    benchmark = SugarCrepe(annotations, images, minimum_coverage=0.03)
    assert (benchmark.n_found, benchmark.n_listed, len(benchmark.missing_images)) == (255, 7511, 1510)
    assert "7256 of 7511 items left out" in benchmark.notes[0]
    assert str(images) not in benchmark.notes[0]  # notes are published, and a path names its user


def test_sugarcrepe_without_any_image_is_refused(annotations, tmp_path):
    with pytest.raises(ValueError, match="no items"):
        SugarCrepe(annotations, tmp_path, minimum_coverage=0.0)


def test_sugarcrepe_refuses_a_complete_set_with_a_short_file(annotations, tmp_path):
    edit(annotations / "swap_att.json", lambda records: records.popitem())
    with pytest.raises(ValueError, match=r"\{'swap_att': 665\} items where the complete set has \{'swap_att': 666\}"):
        SugarCrepe(annotations, tmp_path)


def test_sugarcrepe_leaves_out_the_withdrawn_item_and_says_so(annotations, shared, caplog):
    images = shared / "data" / "coco_by" / "images_256"
    edit(annotations / "swap_obj.json", lambda records: records.update({"108": records["0"]}))
    with caplog.at_level(logging.WARNING):
        benchmark = SugarCrepe(annotations, images, minimum_coverage=0.0)
    assert benchmark.n_listed == 7511
    assert "246 items" in benchmark.notes[0]
    assert "246 items" in caplog.text


def test_sugarcrepe_refuses_a_file_name_that_leads_elsewhere(annotations, tmp_path):
    edit(annotations / "swap_obj.json", lambda records: records["0"].update(filename="../secret.jpg"))
    with pytest.raises(ValueError, match="outside"):
        SugarCrepe(annotations, tmp_path)


def test_sugarcrepe_names_the_file_and_the_item_that_are_damaged(annotations, tmp_path):
    edit(annotations / "swap_obj.json", lambda records: records["7"].pop("caption"))
    with pytest.raises(ValueError, match=r"swap_obj\.json, item '7'.*needs filename \(str\), caption \(str\)"):
        SugarCrepe(annotations, tmp_path)
    (annotations / "swap_obj.json").write_text('{"0": ')
    with pytest.raises(ValueError, match=r"swap_obj\.json: not JSON"):
        SugarCrepe(annotations, tmp_path)
