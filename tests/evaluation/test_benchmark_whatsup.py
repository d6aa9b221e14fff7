"""What'sUp: pairs and sets are right only if all their photographs are."""

import json

import numpy as np
import pytest

from compalign.evaluation.benchmarks import WhatsUpControlled, WhatsUpSpatial

RELATIONS = {
    "controlled_images": {"left_of": "to the left of", "right_of": "to the right of", "on": "on", "under": "under"},
    "controlled_clevr": {
        "left_of": "to the left of",
        "right_of": "to the right of",
        "in-front_of": "in front of",
        "behind": "behind",
    },
}


def controlled_rows(subset, things):
    """The four photographs of each two things, each with its own caption first."""
    rows = []
    for thing, base in things:
        captions = {word: f"A {thing} {relation} a {base}" for word, relation in RELATIONS[subset].items()}
        for word, caption in captions.items():
            others = [text for text in captions.values() if text != caption]
            path = f"data/{subset}/{thing}_{word}_{base}.jpeg"
            rows.append({"image_path": path, "caption_options": [caption, *others]})
    return rows


@pytest.fixture
def controlled(tmp_path):
    """A folder of two sets of A and one of B, in the official format."""
    files = {
        "controlled_images_dataset.json": controlled_rows("controlled_images", [("mug", "table"), ("cap", "chair")]),
        "controlled_clevr_dataset.json": controlled_rows("controlled_clevr", [("fork", "plate")]),
    }
    for name, rows in files.items():
        (tmp_path / name).write_text(json.dumps(rows))
        for row in rows:
            path = tmp_path / row["image_path"].removeprefix("data/")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"picture")
    return tmp_path


def scores_of(right):
    """Scores of four captions an item, of which the first wins where the item is right."""
    right = np.asarray(right, dtype=np.float32)
    return np.stack([right, np.full_like(right, 0.5), np.zeros_like(right), np.zeros_like(right)], axis=1)[:, :, None]


def test_pairs_and_sets_need_all_of_theirs(controlled):
    benchmark = WhatsUpControlled(controlled)
    # A: the mug's left, right and on are right; of the cap left, on and under. B: all four.
    right = [1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1]
    metrics, _ = benchmark.score(scores_of(right))
    values = {name: score.value for name, score in metrics.items()}
    assert (values["controlled_a"], values["controlled_a_pair"], values["controlled_a_set"]) == (6 / 8, 2 / 4, 0)
    assert (values["controlled_b"], values["controlled_b_pair"], values["controlled_b_set"]) == (1, 1, 1)
    assert (metrics["controlled_a_pair"].n, metrics["controlled_a_set"].n) == (4, 2)
    chances = [metrics[f"controlled_a{unit}"].chance for unit in ("", "_pair", "_set")]
    assert chances == [1 / 4, 1 / 16, 1 / 256]
    assert set(benchmark.columns) <= set(metrics)


def test_a_tie_is_a_miss(controlled):
    metrics, _ = WhatsUpControlled(controlled).score(np.zeros((12, 4, 1)))
    assert {score.value for score in metrics.values()} == {0.0}
    assert metrics["controlled_a"].tie_rate == 1


def test_a_pair_without_one_of_its_photographs_does_not_count(controlled):
    (controlled / "controlled_images" / "mug_on_table.jpeg").unlink()
    with pytest.raises(ValueError, match=r"controlled_images/mug_on_table\.jpeg"):
        WhatsUpControlled(controlled)
    metrics, _ = WhatsUpControlled(controlled, minimum_coverage=0.9).score(scores_of(np.ones(11)))
    assert (metrics["controlled_a_pair"].n, metrics["controlled_a_set"].n) == (3, 1)
    assert metrics["controlled_a_pair"].value == 1


def test_a_subset_is_said_to_be_one(controlled):
    assert "a subset: 12 of 820 items of the complete set" in WhatsUpControlled(controlled).notes


@pytest.mark.parametrize(
    ("options", "message"),
    [(["A mug beside a table"] * 4, "states no relation"), (["A mug on a table"] * 3, "needs 4 captions")],
)
def test_captions_of_another_form_are_refused(controlled, options, message):
    path = controlled / "controlled_images_dataset.json"
    rows = json.loads(path.read_text())
    rows[0]["caption_options"] = options
    path.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=message):
        WhatsUpControlled(controlled)


@pytest.fixture
def spatial(tmp_path):
    """One row of each file, and one more of COCO's two things."""
    rows = {
        "coco_qa_one_obj": [[285, "A bear on the left", "A bear on the right"]],
        "coco_qa_two_obj": [[285, "A cup left of a box", "A cup right of a box"], [9, "A above B", "A below B"]],
        "vg_qa_one_obj": [["61512", "A dog on the top", "A dog on the bottom"]],
        "vg_qa_two_obj": [[7, "A cat behind a box", "A cat in front of a box"]],
    }
    for name, listed in rows.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(listed))
    for image in ("val2017/000000000285.jpg", "val2017/000000000009.jpg", "vg_images/61512.jpg", "vg_images/7.jpg"):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        (tmp_path / image).write_bytes(b"picture")
    return tmp_path


def test_spatial_subsets_are_averaged_by_source(spatial):
    benchmark = WhatsUpSpatial(spatial)
    assert benchmark.kinds.tolist() == ["coco_one", "coco_two", "coco_two", "vg_one", "vg_two"]
    scores = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]])[:, :, None]
    metrics, _ = benchmark.score(scores)
    values = {name: score.value for name, score in metrics.items()}
    assert (values["coco_one"], values["coco_two"], values["coco_macro"], values["vg_macro"]) == (1, 0.5, 0.75, 0.5)
    assert values["all_micro"] == 3 / 5
    assert set(benchmark.columns) <= set(values)
    assert benchmark.columns["vg_two"] == "GQA two"


def test_images_may_lie_elsewhere(spatial):
    (spatial / "val2017").rename(spatial / "elsewhere")
    with pytest.raises(ValueError, match=r"000000000285\.jpg"):
        WhatsUpSpatial(spatial)
    assert WhatsUpSpatial(spatial, coco_images=spatial / "elsewhere").n_found == 5


@pytest.mark.parametrize("content", ["{", "[[285]]", "[3]", '[["x", "a", "b"]]'])
def test_a_damaged_file_is_named(spatial, content):
    (spatial / "vg_qa_two_obj.json").write_text(content)
    with pytest.raises(ValueError, match=r"vg_qa_two_obj\.json.*needs a list of"):
        WhatsUpSpatial(spatial)
