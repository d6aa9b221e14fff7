"""Boxes of components: closed forms, refusals by name, files that survive an interruption, detectors and COCO."""

import json
import math
import shutil

import pytest
import torch
from PIL import Image
from transformers import OwlViTConfig, OwlViTForObjectDetection, YolosConfig, YolosForObjectDetection
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from compalign.data import RowReport
from compalign.data.components import (
    CaptionComponents,
    CocoInstances,
    Detector,
    Entity,
    ImageComponents,
    Relation,
    load_components,
    relation_regions,
    write_components,
)
from compalign.data.components.boxes import clipped, enclosing, non_maximum_suppression, overlap
from compalign.data.components.files import describe
from compalign.data.components.picture import draw
from compalign.data.images import open_image
from compalign.data.readers.bad_rows import RowProblem
from compalign.data.tokenization import train_clip_tokenizer

DOG, BALL = Entity((12, 30, 90, 140), 0.91, "dog"), Entity((100, 44, 190, 150), 0.80, "ball")
CAPTION = CaptionComponents("A brown dog left of a ball.", ["brown dog", "ball"], ["brown dog left of a ball"])


def test_a_row_is_spelt_as_documented_and_read_back():
    row = describe("0001.jpg", (200, 160), [BALL, DOG], [CAPTION])
    record = json.loads(row.to_json())
    assert record == {
        "image": "0001.jpg",
        "width": 200,
        "height": 160,
        "entities": [
            {"box": [12, 30, 90, 140], "score": 0.91, "label": "dog"},
            {"box": [100, 44, 190, 150], "score": 0.80, "label": "ball"},
        ],
        "relations": [{"pair": [0, 1], "box": [12, 30, 190, 150], "score": 0.728}],
        "captions": [
            {
                "text": "A brown dog left of a ball.",
                "entities": ["brown dog", "ball"],
                "relations": ["brown dog left of a ball"],
            }
        ],
    }
    assert ImageComponents.from_record(record) == row


def test_enclosing_and_overlap_are_geometry():
    assert enclosing((0, 2, 4, 6), (3, 1, 9, 5)) == (0, 1, 9, 6)
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == 1 / 7
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0  # the far edge is excluded
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((1, 1, 1, 1), (1, 1, 1, 1)) == 0


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-5, -5, 10, 10), (0, 0, 10, 10)),
        ((90, 40, 200, 90), (90, 40, 100, 50)),
        ((0, 0, 100, 50), (0, 0, 100, 50)),
        ((10, 10, 10, 30), "box without area"),
        ((30, 10, 10, 30), "box without area"),
        ((100, 0, 120, 20), "box outside the image"),
        ((-20, 0, 0, 20), "box outside the image"),
        ((0, math.nan, 5, 5), "box not finite"),
        ((0, 0, math.inf, 5), "box not finite"),
    ],
)
def test_boxes_are_clipped_or_refused(box, expected):
    if isinstance(expected, tuple):
        assert clipped(box, 100, 50) == expected
    else:
        with pytest.raises(RowProblem, match=expected):
            clipped(box, 100, 50)


def test_relations_are_ranked_by_the_product_and_ties_keep_their_order():
    entities = [Entity((i, 0, i + 1, 1), score, "x") for i, score in enumerate((0.5, 0.9, 0.9, 0.5))]
    pairs = [relation.pair for relation in relation_regions(entities, 10)]
    assert pairs == [(1, 2), (0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]
    assert [relation.pair for relation in relation_regions(entities, 2)] == pairs[:2]
    assert relation_regions(entities[:1]) == relation_regions([]) == []
    assert relation_regions(entities)[0] == Relation((1, 2), (1, 0, 3, 1), 0.81)


def test_ten_of_each_are_kept_unless_told_otherwise():
    entities = [Entity((i, 0, i + 1, 1), i / 20, "x") for i in range(15)]
    row = describe("a", (20, 20), entities, [])
    assert [entity.score for entity in row.entities] == [i / 20 for i in range(14, 4, -1)]
    assert len(row.relations) == 10
    row = describe("a", (20, 20), entities, [], most_entities=3, most_relations=1)
    assert (len(row.entities), len(row.relations)) == (3, 1)


def test_one_thing_found_under_two_names_is_one_entity():
    twin = DOG._replace(score=0.95, label="brown dog")
    assert non_maximum_suppression([DOG, BALL, twin], 0.7) == [twin, BALL]
    assert non_maximum_suppression([DOG, BALL, twin], 1.0) == [twin, DOG, BALL]


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures and the captions of each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (200, 160), "white").save(folder / f"{name}.png")
    return folder, {f"{name}.png": ["A brown dog left of a ball."] for name in "abc"}


def describe_pets(name, texts):
    """A dog and a ball; one more box, without area, in the second picture."""
    extra = [Entity((5, 5, 5, 9), 0.7, "crumb")] if name.startswith("b") else []
    return describe(name, (200, 160), [DOG, BALL, *extra], [CAPTION])


def test_refused_boxes_are_counted_and_named(pictures, tmp_path, caplog):
    _, captions = pictures
    counts = write_components(captions, describe_pets, tmp_path / "out", {"by": "hand"})
    assert counts["refused_boxes"] == {"box without area": 1}
    assert (counts["images"], counts["entities"], counts["relations"]) == (3, 6, 3)
    assert "b.png: box without area ('crumb' [5, 5, 5, 9] in 200 x 160)" in caplog.text
    with pytest.raises(ValueError, match=r"row 2: refused box .*b.png.*crumb"):
        write_components(captions, describe_pets, tmp_path / "other", {"by": "hand"}, on_bad_row="raise")


def test_images_without_entities_are_kept_counted_and_named(pictures, tmp_path, caplog):
    _, captions = pictures
    empty = CaptionComponents("Wow!", [], [])

    def nothing(name, texts):
        return describe(name, (200, 160), [], [empty])

    counts = write_components({name: ["Wow!"] for name in captions}, nothing, tmp_path / "out", {})
    assert counts["images_without_entities"] == counts["captions_without_entities"] == 3
    assert "3 images without entities, the first:\n  a.png" in caplog.text
    rows = load_components(tmp_path / "out", pictures[0])
    assert [row["entities"] for row in rows] == [[], [], []]


@pytest.mark.parametrize("left", ["", '{"image": "c.png", "wid', '{"image": "\u00e9'])
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(pictures, tmp_path, left):
    _, captions = pictures
    write_components(captions, describe_pets, tmp_path / "whole", {"seed": 1})
    asked = []

    def interrupted(name, texts):
        asked.append(name)
        if name == "c.png" and len(asked) == 3:
            raise KeyboardInterrupt
        return describe_pets(name, texts)

    path = tmp_path / "out" / "components.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_components(captions, interrupted, path.parent, {"seed": 1})
    with path.open("ab") as file:
        file.write(left.encode()[:-1] if left.endswith("\u00e9") else left.encode())
    assert json.loads((path.parent / "components.json").read_text())["counts"] is None
    write_components(captions, interrupted, path.parent, {"seed": 1})
    assert asked == ["a.png", "b.png", "c.png", "c.png"]
    for name in ("components.jsonl", "components.json"):
        assert (path.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_and_other_captions_are_refused(pictures, tmp_path):
    _, captions = pictures
    write_components(captions, describe_pets, tmp_path, {"image": {"threshold": 0.5}, "most": 10})
    with pytest.raises(ValueError, match=r"image.threshold=0.5, now 0.3; use a new folder"):
        write_components(captions, describe_pets, tmp_path, {"image": {"threshold": 0.3}, "most": 10})
    with pytest.raises(ValueError, match=r"has the captions \['A brown dog.*for a.png, now \['A cat.'\]"):
        write_components({"a.png": ["A cat."]}, describe_pets, tmp_path, {"image": {"threshold": 0.5}, "most": 10})
    (tmp_path / "components.json").unlink()
    with pytest.raises(ValueError, match=r"has no components\.json beside it"):
        write_components(captions, describe_pets, tmp_path, {})


def test_rows_are_read_with_their_images(pictures, tmp_path):
    folder, captions = pictures
    write_components(captions, describe_pets, tmp_path, {})
    rows = load_components(tmp_path / "components.jsonl", folder)
    assert [row["image"] for row in rows] == [str((folder / name).resolve()) for name in captions]
    assert rows[1] == {
        "image": str((folder / "b.png").resolve()),
        "image_id": "b.png",
        "width": 200,
        "height": 160,
        "entities": [DOG, BALL],
        "relations": [Relation((0, 1), (12, 30, 190, 150), 0.728)],
        "captions": [CAPTION],
    }


def bad(**changes):
    """A row with other values."""
    return json.loads(describe("a.png", (200, 160), [DOG, BALL], [CAPTION]).to_json()) | changes


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (bad(image="../a.png"), "outside its folder"),
        (bad(image="d.png"), "missing image"),
        (bad(width=0), "width and height"),
        (bad(entities=[{"box": [1, 2, 3], "score": 1, "label": "x"}]), "box is not four numbers"),
        (bad(entities=[{"box": [1, 2, 3, 4], "score": 2, "label": "x"}]), r"score is not in \[0, 1\]"),
        (bad(relations=[{"pair": [0, 2], "box": [1, 2, 3, 4], "score": 1}]), "pair does not name two of 2"),
        (bad(captions=[{"text": 3, "entities": [], "relations": []}]), "text is not text"),
        (bad(captions="A dog."), "captions is not a list of objects"),
        ([1], "row is not an object"),
    ],
)
def test_bad_rows_are_named_and_left_out_or_raised(pictures, record, message):
    folder, _ = pictures
    path = folder / "components.jsonl"
    path.write_text(json.dumps(bad(image="b.png")) + "\n" + json.dumps(record) + "\n")
    report = RowReport()
    assert [row["image_id"] for row in load_components(path, report=report)] == ["b.png"]
    assert [bad_row.row for bad_row in report.bad] == [2]
    with pytest.raises(ValueError, match=f"row 2: .*{message}"):
        load_components(path, on_bad_row="raise")


def test_a_bad_box_in_a_file_costs_itself_and_its_relations(pictures, caplog):
    folder, _ = pictures
    crumb = Entity((5, 5, 5, 9), 0.95, "crumb")
    entities = [crumb, DOG, BALL]
    row = ImageComponents("a.png", 200, 160, entities, relation_regions(entities), [CAPTION], [])
    (folder / "components.jsonl").write_text(row.to_json() + "\n")
    report = RowReport()
    (row,) = load_components(folder, report=report)
    assert row["entities"] == [DOG, BALL]
    assert [relation.pair for relation in row["relations"]] == [(0, 1)]
    assert report.notes == {"box without area": 1}
    assert "row 1: box without area ('crumb'" in caplog.text
    with pytest.raises(ValueError, match="row 1: box without area"):
        load_components(folder, on_bad_row="raise")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny detector with random weights."""
    folder = tmp_path_factory.mktemp("yolos")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    labels = {0: "cat", 1: "dog", 2: "ball"}
    config = YolosConfig(**sizes, image_size=[32, 32], patch_size=8, num_detection_tokens=5, id2label=labels)
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def zero_shot_checkpoint(tmp_path_factory):
    """A tiny zero-shot detector with random weights, and a tokenizer of the scenes' words."""
    folder = tmp_path_factory.mktemp("owlvit")
    tokenizer = train_clip_tokenizer(["a red cat left of a blue star"] * 20, vocab_size=600, max_length=16)
    torch.manual_seed(0)
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = OwlViTConfig(
        text_config={**tower, "vocab_size": len(tokenizer), "max_position_embeddings": 16},
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    OwlViTForObjectDetection(config).save_pretrained(folder)
    OwlViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_detector_is_a_folder_run_through_a_pipeline(checkpoint):
    detector = Detector(str(checkpoint), threshold=0.2)
    found = detector("a.png", Image.new("RGB", (64, 48)), ["dog"])
    assert found
    assert {entity.label for entity in found} <= {"cat", "dog", "ball"}
    assert all(0.2 < entity.score <= 1 for entity in found)
    assert all(len(entity.box) == 4 for entity in found)
    assert Detector(str(checkpoint), threshold=1.0)("a.png", Image.new("RGB", (64, 48)), []) == []
    assert detector.settings["revision"].startswith("sha256:")
    assert detector.settings["threshold"] == 0.2


def test_a_zero_shot_detector_looks_for_the_phrases(zero_shot_checkpoint):
    image = Image.new("RGB", (64, 48), "red")
    detector = Detector(str(zero_shot_checkpoint), threshold=0.0, most_overlap=1.0)
    found = detector("a.png", image, ("red cat", "blue star"))
    assert {entity.label for entity in found} == {"red cat", "blue star"}
    assert detector("a.png", image, ()) == []
    once = Detector(str(zero_shot_checkpoint), threshold=0.0, most_overlap=0.5)
    kept = once("a.png", image, ("red cat", "blue star"))
    assert 0 < len(kept) <= len(found) / 2  # each box is found under both names
    assert set(kept) <= set(found)
    assert once.settings["most_overlap"] == 0.5


def test_a_model_on_the_hub_is_recorded_with_its_commit(checkpoint, tmp_path, monkeypatch):
    """Read from a cache laid out as the Hub's client does."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "models--someone--yolos-tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(checkpoint, cache / "snapshots" / commit)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = Detector("someone/yolos-tiny").settings
    assert settings == {"kind": "detector", "model": "someone/yolos-tiny", "revision": commit, "threshold": 0.5}


def test_what_is_no_detector_is_refused(tmp_path, checkpoint):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match=r"'clip', which is not a detector; accepted: .*yolos"):
        Detector(str(tmp_path))
    with pytest.raises(ValueError, match="threshold is 2; accepted: 0 to 1"):
        Detector(str(checkpoint), threshold=2)


def test_coco_boxes_follow_the_size_of_the_image(shared):
    """The copies at hand are smaller than what was annotated."""
    coco = shared / "data" / "coco_by"
    source = CocoInstances(coco / "instances_val2017.json")
    document = json.loads((coco / "instances_val2017.json").read_text())
    count = 0
    for record in document["images"]:
        image = open_image(record["file_name"], coco / "images_256")
        found = source(record["file_name"], image, [])
        count += len(found)
        row = describe(record["file_name"], image.size, found, [])
        assert row.refused == []
        assert row.entities == found[:10]
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box, _, _ in found]
        assert areas == sorted(areas, reverse=True)
    assert count == sum(not annotation["iscrowd"] for annotation in document["annotations"]) == 211
    annotation = document["annotations"][0]
    record = next(record for record in document["images"] if record["id"] == annotation["image_id"])
    left, top, width, height = annotation["bbox"]
    image = open_image(record["file_name"], coco / "images_256")
    scale = image.width / record["width"]
    expected = [scale * edge for edge in (left, top, left + width, top + height)]
    assert any(entity.box == pytest.approx(expected, abs=0.5) for entity in source(record["file_name"], image, []))
    with pytest.raises(RowProblem, match="not among the instances"):
        source("x.jpg", image, [])
    with pytest.raises(RowProblem, match="another shape"):
        source(record["file_name"], image.resize((100, 300)), [])


def test_a_damaged_instances_file_is_named(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"instances\.json is not a file of COCO instances: KeyError 'categories'"):
        CocoInstances(path)


def test_a_row_can_be_drawn(tmp_path):
    """Also one that has nothing, and one with a box as large as the image."""
    full = Entity((0, 0, 200, 160), 1.0, "a label much longer than the image is wide, which must not end the drawing")
    for index, entities in enumerate(([DOG, BALL], [], [full, DOG])):
        row = describe("a.png", (200, 160), entities, [CAPTION])
        draw(row, Image.new("RGB", (200, 160)), tmp_path / f"{index}.png")
        assert Image.open(tmp_path / f"{index}.png").width > 1000
