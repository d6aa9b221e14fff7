"""ARO on small files made in the official schema: no released rows may be redistributed."""

import hashlib

import numpy as np
import pytest
from annotated import as_groups, touch_images, values, write_json
from PIL import Image

from compalign.data.images import open_image
from compalign.evaluation import evaluate_model
from compalign.evaluation.benchmarks import AroAttribution, AroCocoOrder, AroFlickrOrder, AroRelation

CROP = {"bbox_x": 10, "bbox_y": 5, "bbox_w": 20, "bbox_h": 10}
EXCLUDED = ["next to", *(f"relation {k}" for k in range(156))]


def relation(name: str, image: str = "1.jpg") -> dict:
    captions = {"true_caption": f"the child is {name} the goat", "false_caption": f"the goat is {name} the child"}
    return {"image_path": image, **CROP, **captions, "relation_name": name}


def attribution(one: str, other: str, image: str = "1.jpg") -> dict:
    captions = {
        "true_caption": f"the {one} cat and the {other} gate",
        "false_caption": f"the {other} cat and the {one} gate",
    }
    return {"image_path": image, **CROP, **captions, "attributes": [one, other]}


def notebook(folder, relations=EXCLUDED):
    """The authors' notebook, with invented relations."""
    source = ["import pandas as pd\n", f"symmetric = {relations!r}\n", "df = df[~df.Relation.isin(symmetric)]"]
    return write_json(folder / "notebook.ipynb", {"cells": [{"source": ["%pip\n"]}, {"source": source}]})


@pytest.fixture
def aro(tmp_path):
    """Write records and images as the official folders have them."""

    def write(records, file="visual_genome_relation.json"):
        write_json(tmp_path / file, records)
        touch_images(tmp_path / "images", [record["image_path"] for record in records])
        return tmp_path, tmp_path / "images"

    return write


def test_relations_are_averaged_without_the_excluded_ones(aro, tmp_path):
    names = ["feeding"] * 3 + ["riding"] + ["next to"] * 4
    benchmark = AroRelation(*aro([relation(name) for name in names]), notebook=notebook(tmp_path))
    metrics, _ = benchmark.score(as_groups([[1, 0]] * 3 + [[0, 1]] + [[0, 0]] * 4))
    assert values(metrics) == pytest.approx(
        {
            "feeding": 1,
            "riding": 0,
            "next to": 0,
            "filtered_micro": 3 / 4,
            "filtered_macro": 1 / 2,
            "all_micro": 3 / 8,
            "all_macro": 1 / 3,
        }
    )
    assert metrics["next to"].tie_rate == 1
    assert benchmark.notes == ["a subset: 8 of 23937 items of the complete set"]


def test_without_the_notebook_there_is_no_published_number_and_a_note_says_so(aro):
    benchmark = AroRelation(*aro([relation("feeding")]))
    metrics, _ = benchmark.score(as_groups([[1, 0]]))
    assert set(metrics) == {"feeding", "all_micro", "all_macro"}
    assert "unlike the published filtered_macro" in benchmark.notes[1]


@pytest.mark.parametrize("relations", [EXCLUDED[1:], []])
def test_a_notebook_with_another_list_is_refused(aro, tmp_path, relations):
    with pytest.raises(ValueError, match=rf"{len(relations)} relations in `symmetric`; there must be 157"):
        AroRelation(*aro([relation("feeding")]), notebook=notebook(tmp_path, relations))


def test_attributes_are_averaged_over_frequent_pairs(aro):
    pairs = [("striped", "wooden")] * 25 + [("wooden", "striped")] * 24 + [("red", "small")] * 50
    benchmark = AroAttribution(*aro([attribution(*pair) for pair in pairs], "visual_genome_attribution.json"))
    right = np.array([True] * 25 + [False] * 74)
    metrics, _ = benchmark.score(as_groups(np.stack([right, ~right], axis=1)))
    found = values(metrics)
    assert (found["frequent_macro"], found["all_macro"]) == pytest.approx((1 / 2, 1 / 3))
    assert (found["frequent_micro"], found["all_micro"]) == pytest.approx((25 / 75, 25 / 99))
    assert benchmark.notes[0] == "a subset: 99 of 28748 items of the complete set"


def test_images_are_cropped_to_their_boxes(aro):
    folders = aro([relation("feeding")])
    Image.linear_gradient("L").convert("RGB").save(folders[1] / "1.jpg", quality=95)
    (crop,) = AroRelation(*folders).images
    picture = open_image(crop)
    assert picture.size == (20, 10)
    # Brightness of the gradient is the row: the box begins at row 5 and ends before row 15.
    assert np.asarray(picture)[:, :, 0].mean() == pytest.approx(9.5, abs=1)


def test_one_file_with_two_boxes_is_two_images(aro, model, processor):
    other = relation("riding") | {"bbox_x": 100, "bbox_y": 100}
    folders = aro([relation("feeding"), relation("feeding"), other])
    Image.effect_noise((256, 256), 90).convert("RGB").save(folders[1] / "1.jpg")
    results = evaluate_model(model, processor, [AroRelation(*folders)], progress=False)
    assert (results.encoded["images_requested"], results.encoded["images_encoded"]) == (3, 2)


def test_missing_images_are_named_and_counted(aro):
    folders = aro([relation("feeding"), relation("riding", "2.jpg"), relation("riding", "2.jpg")])
    (folders[1] / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 of 3 items left out: 1 of 2 images are missing, such as 2\.jpg"):
        AroRelation(*folders)
    benchmark = AroRelation(*folders, minimum_coverage=0.3)
    assert (benchmark.n_found, benchmark.n_listed, benchmark.missing_images) == (1, 3, ["2.jpg"])


def test_an_item_without_its_box_is_named(aro):
    with pytest.raises(ValueError, match=r"visual_genome_relation\.json, item '1'.*needs image_path \(str\), bbox_x"):
        AroRelation(*aro([relation("feeding"), {"image_path": "1.jpg"}]))


ORDERS = [
    {
        "image": "val2014/1.jpg",
        "caption_options": ["a tall man", "tall a man", "man a tall", "a man tall", "man tall a"],
    },
    {"image": "val2014/1.jpg", "caption_options": ["a cat", "cat a", "a cat", "cat a", "cat a"]},
    {"image": "val2014/2.jpg", "caption_options": ["a red dog", "dog a red", "red a dog", "dog red a", "red dog a"]},
]


@pytest.fixture
def orders(tmp_path):
    """A file of frozen shuffles and its images."""
    touch_images(tmp_path, [order["image"] for order in ORDERS])
    return write_json(tmp_path / "coco_order.json", ORDERS), tmp_path


def test_a_tie_is_a_miss_and_correct_by_the_released_rule(orders):
    metrics, _ = AroCocoOrder(*orders).score(as_groups([[5, 1, 2, 3, 4], [5, 1, 5, 1, 1], [3, 1, 4, 1, 1]]))
    assert values(metrics) == pytest.approx({"order": 1 / 3, "order_lenient": 2 / 3})
    assert metrics["order"].tie_rate == pytest.approx(1 / 3)
    assert metrics["order"].half_credit == pytest.approx(1 / 2)
    assert {score.chance for score in metrics.values()} == {1 / 5}


@pytest.mark.parametrize(("benchmark", "size"), [(AroCocoOrder, 25_010), (AroFlickrOrder, 5_000)])
def test_frozen_shuffles_are_named_by_source_and_content(orders, benchmark, size):
    notes = benchmark(*orders, source="mteb/ARO-COCO-order at abc").notes
    digest = hashlib.sha256(orders[0].read_bytes()).hexdigest()[:16]
    assert notes == [
        f"a subset: 3 of {size} items of the complete set",
        f"frozen shuffles: mteb/ARO-COCO-order at abc, sha256 {digest}",
        "1 items are always a tie: a shuffle equals the caption",
    ]


def test_an_item_of_four_captions_is_refused(tmp_path):
    path = write_json(tmp_path / "order.json", [{"image": "1.jpg", "caption_options": ["a", "b", "c", "d"]}])
    with pytest.raises(ValueError, match=r"item '0': caption_options .* needs 5 texts"):
        AroCocoOrder(path, tmp_path)


def test_more_items_than_the_official_number_are_refused(tmp_path):
    path = write_json(tmp_path / "order.json", ORDERS[:1] * 5001)
    with pytest.raises(ValueError, match=r"\{'aro_flickr_order': 5001\} items where the complete set has"):
        AroFlickrOrder(path, tmp_path)
