"""VL-CheckList on small files made in the official schema: it has no licence to redistribute it under."""

import numpy as np
import pytest
from annotated import as_groups, touch_images, values, write_json

from compalign.evaluation import evaluate_model
from compalign.evaluation.benchmarks import VLCheckList

FILES = {
    "Attribute/vaw/action": 2,
    "Attribute/vg/action": 2,
    "Attribute/vaw/size": 3,
    "Object/Location/swig_location/swig_agent/swig_agent_center": 1,
    "Object/Location/swig_location/swig_agent/swig_agent_mid": 1,
    "Object/Location/vg_location/vg_subj_mid": 4,
    "Object/Size/hake_size/hake_obj_small": 2,
    "Relation/swig_action": 2,
    "Relation/hake_action": 1,
    "Relation/vg/action": 1,
    "Relation/vg/spatial": 2,
}
SOURCES = {"vg": "vg", "vaw": "vg", "swig": "swig", "hake": "hake"}


def source(name: str) -> str:
    return next(folder for dataset, folder in SOURCES.items() if dataset in name)


@pytest.fixture
def folders(tmp_path):
    """All files, with as many items as listed above, and their images."""
    for name, count in FILES.items():
        items = [[f"{k}.jpg", {"POS": [f"red cup {k}", "unused"], "NEG": [f"green cup {k}"]}] for k in range(count)]
        write_json(tmp_path / "data" / f"{name}.json", items)
        touch_images(tmp_path / "images" / source(name), [f"{k}.jpg" for k in range(count)])
    return tmp_path / "data", tmp_path / "images"


def test_averages_go_from_files_to_datasets_to_leaves_to_groups(folders):
    benchmark = VLCheckList(*folders)
    solved = ["Attribute/vaw/action", "Object/Location/swig_location/swig_agent/swig_agent_mid", "Relation/vg/spatial"]
    right = np.isin(benchmark.kinds, solved)
    found = values(benchmark.score(as_groups(np.stack([right, ~right], axis=1)))[0])
    location = (1 / 2 + 0) / 2  # two files of SWiG, one of Visual Genome
    action, spatial = 1 / 2, 1.0
    assert found["object_macro"] == pytest.approx((location + 0) / 2)
    assert found["attribute_macro"] == pytest.approx((action + 0) / 2)
    assert found["relation_macro"] == pytest.approx((0 + spatial) / 2)
    # Of the nine leaves, six have files: two of objects, two of attributes, two of relations.
    assert found["all_macro"] == pytest.approx((location + action + spatial) / 6)
    assert found["all_micro"] == pytest.approx((2 + 1 + 2) / sum(FILES.values()))
    assert set(benchmark.columns) <= set(found)


def test_the_interval_of_a_nested_mean_is_that_mean_where_nothing_varies(folders):
    benchmark = VLCheckList(*folders)
    right = np.isin(benchmark.kinds, ["Relation/vg/spatial", "Relation/hake_action"])
    score = benchmark.score(as_groups(np.stack([right, ~right], axis=1)))[0]["relation_macro"]
    assert (score.value, *score.interval) == pytest.approx([(1 / 3 + 1) / 2] * 3)


def test_absent_leaves_are_named(folders):
    notes = VLCheckList(*folders).notes
    assert notes == [
        "a subset: 7 of 82690 items of the complete set",
        "the first 1000 items of each file, as released",
        "averages leave out leaves without files: attribute color, attribute material, attribute state",
    ]


def test_the_first_items_of_each_file_count_unless_all_are_asked_for(folders):
    assert VLCheckList(*folders, limit=1).n_listed == len(FILES)
    assert VLCheckList(*folders, limit=None).n_listed == sum(FILES.values())
    with pytest.raises(ValueError, match="limit 0"):
        VLCheckList(*folders, limit=0)


def test_equal_texts_and_repeated_items_are_counted(folders):
    same = ["0.jpg", {"POS": ["a cup"], "NEG": ["a cup"]}]
    write_json(folders[0] / "Attribute/vg/action.json", [same, same, same])
    notes = VLCheckList(*folders).notes
    assert notes[-2:] == ["3 items have two equal texts: always a tie", "2 items repeat another item of their file"]


def test_missing_images_are_named_and_counted(folders):
    for path in (folders[1] / "hake").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"3 of 21 items left out: 2 of 8 images are missing, such as 0\.jpg, 1\.jpg"):
        VLCheckList(*folders)
    notes = VLCheckList(*folders, minimum_coverage=0.8).notes
    assert any("averages leave out kinds without items: Object/Size/hake_size/hake_obj_small" in note for note in notes)


@pytest.mark.parametrize(
    "item", [["0.jpg", {"POS": "red", "NEG": ["green"]}], ["0.jpg"], {"POS": []}, ["0.jpg", {"POS": [], "NEG": ["a"]}]]
)
def test_a_damaged_item_is_named(folders, item):
    write_json(folders[0] / "Relation/vg/spatial.json", [item])
    with pytest.raises(ValueError, match=r"spatial\.json, item 0: .*; needs \[\"image\.jpg\""):
        VLCheckList(*folders)


def test_a_file_in_no_known_place_is_refused(folders):
    write_json(folders[0] / "Relation/vg/colour.json", [])
    with pytest.raises(
        ValueError,
        match=r"Relation/vg/colour\.json: the path names the leaves \[\] .* \['vg'\]; must be one of action, spatial",
    ):
        VLCheckList(*folders)


def test_photographs_are_scored(folders, shared, model, processor):
    photograph = next((shared / "data" / "coco_by" / "images_256").iterdir()).read_bytes()
    for path in folders[1].rglob("*.jpg"):
        path.write_bytes(photograph)
    results = evaluate_model(model, processor, [VLCheckList(*folders)], progress=False)
    assert results.encoded["images_encoded"] == 1
    rows = results.benchmarks["vl_checklist"].rows
    hits = [row["correct"] for row in rows if row["kind"] == "Relation/vg/spatial"]
    assert results.metrics["vl_checklist/Relation/vg/spatial"] == np.mean(hits)
