"""VALSE on its released items: sizes, the validity filter, sources of images, and the blind integers."""

import json
import shutil

import numpy as np
import pytest
from annotated import as_groups, blind_counts, touch_images, values, write_json

from compalign.evaluation import evaluate_model
from compalign.evaluation.benchmarks import Valse

# n, items won strictly by the shorter text, ties: counted on the released files, independently of this library.
SHORTER_TEXT = {
    "existence": (505, 249, 0),
    "plurals": (851, 451, 22),
    "counting-hard": (868, 161, 556),
    "counting-small-quant": (900, 319, 324),
    "counting-adversarial": (691, 3, 457),
    "relations": (535, 264, 42),
    "action-replacement": (648, 243, 118),
    "actant-swap": (949, 360, 306),
    "coreference-standard": (708, 319, 0),
    "coreference-hard": (104, 47, 0),
    "foil-it": (943, 416, 115),
}
LARGER_NUMBER = {"counting-hard": 400, "counting-small-quant": 425, "counting-adversarial": 691}
PREFIXES = {
    "v7w_": "visual7w",
    "COCO_train2014_": "coco_train2014",
    "COCO_val2014_": "coco_val2014",
    "VisualDialog_val2018_": "visdial_val2018",
    "0": "coco_val2017",
}


@pytest.fixture(scope="session")
def photographed(shared, tmp_path_factory):
    """Empty files for all images, in the folders of their sources."""
    names = []
    for piece in SHORTER_TEXT:
        for record in json.loads((shared / "data" / "annotations" / "valse" / f"{piece}.json").read_text()).values():
            image = record["image_file"]
            folder = next((PREFIXES[prefix] for prefix in PREFIXES if image.startswith(prefix)), "swig")
            names.append(f"{folder}/{image}")
    assert len(set(names)) == 6123
    return touch_images(tmp_path_factory.mktemp("images"), names)


@pytest.fixture(scope="session")
def complete(shared, photographed):
    """The complete set of items that count."""
    return Valse(shared / "data" / "annotations" / "valse", photographed)


@pytest.fixture
def annotations(shared, tmp_path):
    """A writable copy of the annotation files."""
    return shutil.copytree(shared / "data" / "annotations" / "valse", tmp_path / "data", copy_function=shutil.copyfile)


def test_the_complete_set_has_the_official_sizes(complete):
    assert (complete.n_found, complete.n_listed, len(set(complete.texts))) == (7702, 7702, 12_156)
    assert complete.missing_images == []


def test_blind_baselines_give_the_known_integers(complete):
    metrics, _ = complete.score(np.zeros((7702, 2, 1)))
    assert {piece: blind_counts(metrics[piece], "shorter text") for piece in SHORTER_TEXT} == SHORTER_TEXT
    assert {piece: blind_counts(metrics[piece], "larger number")[1] for piece in LARGER_NUMBER} == LARGER_NUMBER


def test_the_piece_that_needs_no_image_is_flagged(complete):
    assert complete.notes == ["counting-adversarial is nearly solved without the image: 100.0 % by larger number"]


def test_the_headline_is_the_mean_of_eleven_files(complete):
    right = np.isin(complete.kinds, ["existence", "counting-hard"])
    metrics, _ = complete.score(as_groups(np.stack([right, ~right], axis=1)))
    found = values(metrics)
    assert found["all_macro"] == pytest.approx(2 / 11)
    assert found["counting_macro"] == pytest.approx(1 / 3)
    assert found["all_micro"] == pytest.approx((505 + 868) / 7702)


def test_items_that_annotators_doubted_do_not_count(annotations, photographed):
    path = annotations / "existence.json"
    records = json.loads(path.read_text())
    first = next(iter(records.values()))
    doubted = {"doubted": first | {"mturk": {"caption": 1, "foil": 2, "other": 0}}}
    path.write_text(json.dumps(doubted | records))
    benchmark = Valse(annotations, photographed)
    assert benchmark.n_listed == 7702
    assert benchmark.notes[0] == "1 items that fewer than 2 of 3 annotators validated do not count"


def test_a_complete_set_with_a_short_or_a_missing_file_is_refused(annotations, photographed):
    path = annotations / "relations.json"
    records = json.loads(path.read_text())
    records.popitem()
    path.write_text(json.dumps(records))
    with pytest.raises(ValueError, match=r"\{'relations': 534\} items where the complete set has \{'relations': 535\}"):
        Valse(annotations, photographed)
    path.unlink()
    with pytest.raises(ValueError, match=r"\{'relations': 0\}"):
        Valse(annotations, photographed)


def test_a_missing_source_is_named_and_counted(shared, photographed, tmp_path):
    for folder in photographed.iterdir():
        if folder.name != "swig":
            (tmp_path / folder.name).symlink_to(folder)
    annotations = shared / "data" / "annotations" / "valse"
    with pytest.raises(ValueError, match=r"1597 of 7702 items left out: \d+ of 6123 images are missing"):
        Valse(annotations, tmp_path)
    benchmark = Valse(annotations, tmp_path, minimum_coverage=0.7)
    assert benchmark.n_found == 7702 - 1597
    assert "averages leave out kinds without items: actant-swap, action-replacement" in benchmark.notes


def test_an_unknown_source_is_refused(annotations, photographed):
    path = annotations / "plurals.json"
    records = json.loads(path.read_text())
    next(iter(records.values()))["dataset"] = "coco2099"
    path.write_text(json.dumps(records))
    with pytest.raises(ValueError, match=r"plurals\.json, item 'plurals:.*dataset 'coco2099'"):
        Valse(annotations, photographed)


def test_real_photographs_are_scored_and_the_rest_is_said_to_be_absent(shared, tmp_path, model, processor):
    coco = shared / "data" / "coco_by"
    for path in (coco / "valse").iterdir():
        for record in json.loads(path.read_text()).values():
            source = "coco_val2014" if record["image_file"].startswith("COCO_val2014_") else "coco_val2017"
            (tmp_path / source).mkdir(exist_ok=True)
            shutil.copyfile(coco / "images_256" / record["mini_image"], tmp_path / source / record["image_file"])
    benchmark = Valse(coco / "valse", tmp_path)
    result = evaluate_model(model, processor, [benchmark], progress=False).benchmarks["valse"]
    assert {piece: result.scores[piece].n for piece in ("foil-it", "plurals", "relations")} == {
        "foil-it": 5,
        "plurals": 14,
        "relations": 7,
    }
    pieces = [result.scores[piece].value for piece in ("foil-it", "plurals", "relations")]
    assert result.scores["all_macro"].value == pytest.approx(np.mean(pieces))
    assert result.notes[0] == "a subset: 26 of 7702 items of the complete set"
    assert result.notes[1].startswith("averages leave out kinds without items: actant-swap, action-replacement, coref")


def test_a_folder_without_any_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'existence': 0"):
        Valse(tmp_path, tmp_path)
    write_json(tmp_path / "existence.json", {"1": {"caption": "a"}})
    with pytest.raises(ValueError, match=r"existence\.json, item '1'.*needs dataset \(str\)"):
        Valse(tmp_path, tmp_path)
