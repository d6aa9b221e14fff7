"""Contamination: the same photograph is found however it is written, and captions apart from case and spaces."""

import json

import pytest

from compalign.evaluation import SugarCrepe
from compalign.evaluation.benchmarks import CocoVal2017Retrieval
from compalign.evaluation.contamination import check_contamination, find_overlap, image_identity


@pytest.mark.parametrize(
    ("image", "identity"),
    [
        ("COCO_val2014_000000000285.jpg", 285),
        ("val2014/COCO_val2014_000000000285.jpg", 285),
        ("/data/coco/val2017/000000000285.jpg", 285),
        (285, 285),
        ("285", 285),
        ("VG_100K/285.jpg", "285.jpg"),  # Visual Genome counts on its own
        ("1000092795.jpg", "1000092795.jpg"),  # and so does Flickr
        ("flickr/mug_on_table.jpeg", "mug_on_table.jpeg"),
    ],
)
def test_a_photograph_of_coco_is_its_number_and_any_other_its_file_name(image, identity):
    assert image_identity(image) == identity


def test_shared_images_and_captions_are_named_as_the_benchmark_writes_them():
    overlap = find_overlap(
        training_images=["train2014/COCO_train2014_000000000009.jpg", 285, "a/mug.jpg", 285],
        training_captions=["A dog  sleeps.", "a cat"],
        benchmark_images=["val2017/000000000285.jpg", "000000000785.jpg", "b/mug.jpg"],
        benchmark_captions=["a DOG sleeps", "A bear", "a bear ", "a dog sits"],
    )
    assert overlap.images == ["b/mug.jpg", "val2017/000000000285.jpg"]
    assert overlap.captions == ["a DOG sleeps"]
    counts = (overlap.benchmark_images, overlap.benchmark_captions, overlap.training_images, overlap.training_captions)
    assert counts == (3, 3, 3, 2)
    assert str(overlap) == (
        "2 of 3 images and 1 of 3 captions of the benchmark are among 3 images and 2 captions of training"
    )


def test_nothing_shared_is_nothing_found():
    overlap = find_overlap(["1.jpg"], ["a"], ["2.jpg"], ["b"])
    assert (overlap.images, overlap.captions) == ([], [])


@pytest.fixture
def sugarcrepe(shared):
    coco = shared / "data" / "coco_by"
    return SugarCrepe(coco / "sugarcrepe", coco / "images_256")


def test_a_coco_file_of_the_very_images_contaminates_all_and_one_of_others_nothing(shared, sugarcrepe, tmp_path):
    official = shared / "data" / "coco_by" / "captions_val2017.json"
    overlap = check_contamination(official, sugarcrepe)
    assert (len(overlap.images), overlap.benchmark_images, overlap.training_images) == (50, 50, 124)
    assert overlap.images == sorted({path.name for path in sugarcrepe.images})
    assert len(overlap.captions) > 50  # SugarCrepe's true captions are COCO's
    document = json.loads(official.read_text())
    kept = (shared / "data" / "coco_by" / "train.txt").read_text().split()
    document["images"] = [image for image in document["images"] if image["file_name"] in kept]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [row for row in document["annotations"] if row["image_id"] in ids]
    (tmp_path / "train.json").write_text(json.dumps(document))
    overlap = check_contamination(tmp_path / "train.json", sugarcrepe)
    assert (overlap.images, overlap.training_images) == ([], 62)


def test_deglas_records_are_read_by_their_numbers(shared, sugarcrepe, tmp_path):
    number = int(sugarcrepe.images[0].stem)
    negative = sugarcrepe.items[0].captions[1]
    rows = [
        {"image_id": number, "original": negative.upper(), "enhanced": ["x"]},
        {"image_id": 1, "original": "y", "enhanced": ["x"]},
        {"image_id": 2, "original": "", "enhanced": []},
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    overlap = check_contamination(tmp_path / "train.json", sugarcrepe)
    assert overlap.images == [sugarcrepe.images[0].name]
    assert overlap.captions == [negative]
    assert overlap.unread == 1
    assert "1 rows of training could not be read" in str(overlap)


def test_a_benchmark_against_its_own_file_is_contaminated_whole(shared):
    coco = shared / "data" / "coco_by"
    benchmark = CocoVal2017Retrieval(coco / "captions_val2017.json", coco / "images_256")
    overlap = check_contamination(coco / "captions_val2017.json", benchmark)
    assert len(overlap.images) == overlap.benchmark_images == 124
    assert len(overlap.captions) == overlap.benchmark_captions


def test_an_unknown_format_is_refused(tmp_path, sugarcrepe):
    (tmp_path / "train.csv").write_text("picture,words\na.jpg,a\n")
    with pytest.raises(ValueError, match="'picture', 'words'"):
        check_contamination(tmp_path / "train.csv", sugarcrepe)
