"""Retrieval over photographs: official files are read whole, and any caption of an image is a hit."""

import json

import numpy as np
import pytest

from compalign.evaluation import encode_references, retrieval_ranks
from compalign.evaluation.benchmarks import CocoRetrieval, CocoVal2017Retrieval, Flickr30kRetrieval
from compalign.evaluation.metrics import RANK_BLOCK


def karpathy(path, captions, folder=None, split="test"):
    """Write one of Karpathy's files, with an image of another split behind."""

    def image(position, texts, split):
        name = {"filename": f"{position}.jpg", "split": split, "sentences": [{"raw": text} for text in texts]}
        return name if folder is None else name | {"filepath": folder}

    images = [image(position, texts, split) for position, texts in enumerate(captions)]
    path.write_text(json.dumps({"images": [*images, image(99, ["seen in training"], "train")], "dataset": "coco"}))
    return path


def make_images(folder, count):
    folder.mkdir(parents=True)
    for position in range(count):
        (folder / f"{position}.jpg").write_bytes(b"picture")
    return folder


@pytest.fixture
def two(tmp_path):
    """Two images, of two and three captions."""
    make_images(tmp_path / "val2014", 2)
    return karpathy(tmp_path / "dataset_coco.json", [["a", "b"], ["c", "d", "e"]], "val2014"), tmp_path


def test_only_the_test_split_is_read_in_the_order_of_the_file(two):
    benchmark = CocoRetrieval(*two)
    assert benchmark.texts == ["a", "b", "c", "d", "e"]
    assert [path.name for path in benchmark.images] == ["0.jpg", "1.jpg"]
    assert benchmark.image_of_caption.tolist() == [0, 0, 1, 1, 1]
    assert benchmark.notes == [
        "a subset: 2 of 5000 images and 5 of 25010 captions of the complete set",
        "captions per image: all",
    ]


def test_the_first_captions_of_each_image_are_taken_and_the_number_is_noted(two):
    benchmark = CocoRetrieval(*two, captions_per_image=2)
    assert benchmark.texts == ["a", "b", "c", "d"]
    assert "captions per image: 2" in benchmark.notes


def test_any_caption_of_an_image_is_a_hit(two):
    scores = np.array([[0, 1], [9, 0], [8, 2], [0, 0], [3, 5]])[None]  # (1, captions, images)
    metrics, rows = CocoRetrieval(*two, ks=(1, 2)).score(scores)
    values = {name: score.value for name, score in metrics.items()}
    # Image 0 finds its own "b" (9) first, image 1 its own "e" (5); of the captions "b" and "e" find theirs first, and
    # "d", a tie, is ranked half a place down.
    assert values["image_to_text_recall_1"] == 1
    assert values["text_to_image_recall_1"] == pytest.approx(3 / 5)
    assert values["text_to_image_recall_2"] == 1
    assert [row["rank"] for row in rows] == [0, 0, 1, 0, 1, 0.5, 0]
    assert (metrics["image_to_text_recall_1"].n, metrics["text_to_image_recall_1"].n) == (2, 5)
    assert metrics["image_to_text_recall_1"].chance == pytest.approx((2 / 5 + 3 / 5) / 2)
    assert metrics["text_to_image_recall_1"].chance == 1 / 2


def test_captions_of_one_image_are_resampled_together(two):
    """All captions of image 0 are hits and none of image 1: the interval is as wide as two queries make it."""
    scores = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0]])[None]
    metrics, _ = CocoRetrieval(*two, ks=(1,)).score(scores)
    assert metrics["text_to_image_recall_1"].interval == (0, 1)


def test_a_missing_image_is_named_and_takes_its_captions_along(two):
    path, folder = two
    (folder / "val2014" / "0.jpg").unlink()
    with pytest.raises(ValueError, match=r"2 of 5 items left out: 1 of 2 images are missing, such as val2014/0\.jpg"):
        CocoRetrieval(path, folder)
    benchmark = CocoRetrieval(path, folder, minimum_coverage=0.5)
    assert benchmark.texts == ["c", "d", "e"]
    assert benchmark.image_of_caption.tolist() == [0, 0, 0]
    assert (benchmark.n_found, benchmark.n_listed) == (3, 5)
    assert any("fewer candidates" in note for note in benchmark.notes)
    (folder / "val2014" / "1.jpg").unlink()
    with pytest.raises(ValueError, match="all 2 images are missing"):
        CocoRetrieval(path, folder, minimum_coverage=0)


def test_official_sizes_are_5000_and_25010_and_1000_and_5000(tmp_path):
    images = make_images(tmp_path / "images", 1000)
    path = karpathy(tmp_path / "dataset_flickr30k.json", [[f"{k} {n}" for n in range(5)] for k in range(1000)])
    benchmark = Flickr30kRetrieval(path, images)
    assert benchmark.notes == ["captions per image: all"]
    assert (CocoRetrieval.num_images, CocoRetrieval.num_captions) == (5000, 25010)
    path = karpathy(tmp_path / "short.json", [[f"{k} {n}" for n in range(5 - (k == 7))] for k in range(1000)])
    with pytest.raises(ValueError, match=r"short\.json: \{'captions': 4999\} items where the complete set has"):
        Flickr30kRetrieval(path, images)


@pytest.mark.parametrize("number", [0, "5", 2.5])
def test_a_number_of_captions_is_a_number_or_all(two, number):
    with pytest.raises(ValueError, match="captions_per_image"):
        CocoRetrieval(*two, captions_per_image=number)


def test_an_image_with_too_few_captions_is_named(two):
    with pytest.raises(ValueError, match=r"1 images have fewer than 3 captions, such as val2014/0\.jpg with 2"):
        CocoRetrieval(*two, captions_per_image=3)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [{"split": "test"}]}', '{"images": [3]}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "dataset_coco.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset_coco\.json: not a split file of Karpathy"):
        CocoRetrieval(tmp_path / "dataset_coco.json", tmp_path)


def test_a_file_without_a_test_split_is_refused(tmp_path):
    path = karpathy(tmp_path / "dataset_coco.json", [["a"]], split="val")
    with pytest.raises(ValueError, match="no images of the test split"):
        CocoRetrieval(path, tmp_path)


def test_a_file_name_may_not_lead_elsewhere(tmp_path):
    path = karpathy(tmp_path / "dataset_coco.json", [["a"]], folder="../..")
    with pytest.raises(ValueError, match="outside"):
        CocoRetrieval(path, tmp_path)


def test_val2017_on_photographs_takes_five_captions_of_each(shared):
    coco = shared / "data" / "coco_by"
    benchmark = CocoVal2017Retrieval(coco / "captions_val2017.json", coco / "images_256")
    assert (len(benchmark.images), len(benchmark.texts), benchmark.ks) == (124, 620, (1, 5, 10, 50))
    assert np.bincount(benchmark.image_of_caption).tolist() == [5] * 124
    annotations = json.loads((coco / "captions_val2017.json").read_text())["annotations"]
    name = benchmark.images[3].name
    own = [row["caption"] for row in annotations if f"{row['image_id']:012d}.jpg" == name]
    assert benchmark.texts[15:20] == own
    perfect = (benchmark.image_of_caption[:, None] == np.arange(124)).astype(np.float32)
    metrics, _ = benchmark.score(perfect[None])
    assert {score.value for score in metrics.values()} == {1.0}
    assert set(benchmark.columns) == set(metrics)


def test_val2017_on_photographs_equals_a_plain_loop(shared, model, processor):
    coco = shared / "data" / "coco_by"
    benchmark = CocoVal2017Retrieval(coco / "captions_val2017.json", coco / "images_256")
    encoded = encode_references(model, processor, benchmark.images, benchmark.texts, progress=False)
    scores = encoded.scores(benchmark.image_groups, benchmark.text_groups)
    metrics, _ = benchmark.score(scores)
    plain = 0
    for image in range(124):
        best = int(np.argmax(scores[0, :, image]))
        plain += best // 5 == image
    assert metrics["image_to_text_recall_1"].value == plain / 124


def test_ranks_do_not_depend_on_the_block(monkeypatch):
    """More images than a block, scores with many ties, against one block of all."""
    generator = np.random.default_rng(0)
    images = 2 * RANK_BLOCK + 3
    similarity = generator.integers(0, 50, (images, 2 * images)).astype(np.float32)
    image_of_caption = generator.permutation(np.arange(2 * images) % images)
    blocked = retrieval_ranks(similarity, image_of_caption)
    monkeypatch.setattr("compalign.evaluation.metrics.RANK_BLOCK", images)
    whole = retrieval_ranks(similarity, image_of_caption)
    for direction in blocked:
        np.testing.assert_array_equal(blocked[direction], whole[direction])
    caption, own = 17, image_of_caption[17]
    column = similarity[:, caption]
    expected = (column > column[own]).sum() + ((column == column[own]).sum() - 1) / 2
    assert blocked["text_to_image"][caption] == expected
