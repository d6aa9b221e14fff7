"""Captions of one image never share a contrastive batch, and no row is lost for it that need not be."""

import random
from collections import Counter
from types import SimpleNamespace

import datasets
import pytest
import tiny
from PIL import Image

from compalign.trainers.rows import RowsWithNeighbors
from compalign.trainers.sampling import ImagesApartSampler, images_apart


def batches_of(sampler, size):
    """The rows in the sampler's order, batch by batch."""
    order = list(sampler)
    return [order[start : start + size] for start in range(0, len(order), size)]


def make_ids(counts, seed=0):
    """An image id for each caption, shuffled."""
    ids = [image for image, count in enumerate(counts) for _ in range(count)]
    random.Random(seed).shuffle(ids)
    return ids


CASES = {
    "as_coco": ([5] * 40, 16),
    "uneven": ([1, 2, 3, 4, 5, 6] * 8, 12),
    "one_image_in_every_batch": ([10] + [1] * 70, 8),
    "all_in_every_batch": ([6] * 8, 8),
    "one_batch": ([3] * 8, 8),
    "more_captions_than_batches": ([30] + [2] * 30, 10),
}


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_no_batch_has_two_captions_of_an_image_and_all_but_the_last_are_full(case, drop_last):
    counts, size = CASES[case]
    ids = make_ids(counts)
    sampler = ImagesApartSampler(ids, size, drop_last=drop_last)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = batches_of(sampler, size)
        assert all(len({ids[row] for row in batch}) == len(batch) for batch in batches)
        assert all(len(batch) == size for batch in batches[: -1 if not drop_last else None])
        used = [row for batch in batches for row in batch]
        assert len(set(used)) == len(used) == len(sampler) == len(ids) - sampler.left_out


@pytest.mark.parametrize("case", ["as_coco", "uneven", "one_image_in_every_batch", "all_in_every_batch"])
def test_no_more_rows_are_left_out_than_an_incomplete_batch_has(case):
    counts, size = CASES[case]
    assert ImagesApartSampler(make_ids(counts), size).left_out == sum(counts) % size
    assert ImagesApartSampler(make_ids(counts), size, drop_last=False).left_out == 0


def test_as_many_batches_are_filled_as_there_can_be():
    """Against all ways to choose a number of batches: n batches need n * size captions, at most n of each image."""
    draw = random.Random(0)
    for _ in range(200):
        counts = [draw.randint(1, 9) for _ in range(draw.randint(4, 30))]
        size = draw.randint(2, len(counts))
        possible = [n for n in range(1, sum(counts) + 1) if sum(min(count, n) for count in counts) >= n * size]
        sampler = ImagesApartSampler(make_ids(counts), size)
        assert len(sampler) == max(possible) * size
        assert len(list(sampler)) == len(sampler)


def test_every_row_has_its_turn_where_not_all_find_a_place():
    counts, size = CASES["more_captions_than_batches"]
    sampler = ImagesApartSampler(make_ids(counts), size)
    turns = Counter()
    for epoch in range(60):
        sampler.set_epoch(epoch)
        turns.update(sampler)
    assert len(turns) == sum(counts)


def test_the_order_is_a_function_of_seed_and_epoch_and_images_meet_others():
    ids = make_ids([5] * 40)

    def order(seed=0, epoch=0):
        sampler = ImagesApartSampler(ids, 16, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order() != order(1) != order(1, 1)
    sampler = ImagesApartSampler(ids, 16)
    company = [frozenset(ids[row] for row in batch) for batch in batches_of(sampler, 16)]
    assert len(set(company)) == len(company), "the same images meet in several batches"


def test_too_few_images_for_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"15 rows show 3 images.*batch, which has 8 rows: lower per_device"):
        ImagesApartSampler(make_ids([5] * 3), 8)
    assert len(ImagesApartSampler(make_ids([5] * 3), 8, drop_last=False)) == 3


# In the trainers


def arguments(size=4, strategy="random"):
    return SimpleNamespace(
        train_sampling_strategy=strategy, train_batch_size=size, world_size=1, dataloader_drop_last=True
    )


def test_images_are_known_by_their_column_in_lists_and_datasets_without_opening_one():
    ids = make_ids([2] * 8)
    pictures = ["absent.jpg"] * len(ids)
    table = datasets.Dataset.from_dict({"image": pictures, "image_id": ids}).cast_column("image", datasets.Image())
    rows = [{"image": picture, "image_id": image} for picture, image in zip(pictures, ids, strict=True)]
    expected = list(ImagesApartSampler(ids, 4, seed=7))
    for some in (rows, table, table.with_format("torch")):
        sampler = images_apart(some, arguments(), seed=7)
        assert [ids[row] for row in sampler] == [ids[row] for row in expected]


@pytest.mark.parametrize(
    "rows",
    [
        [{"image_id": number} for number in range(8)],
        [{"caption": "a cat"}] * 8,
        [{"image_id": None}] * 8,
        Image.new("RGB", (8, 8)),
        None,
    ],
    ids=["each_its_own", "no_column", "no_names", "unknown", "nothing"],
)
def test_the_usual_order_stays_where_no_image_is_known_to_have_several_captions(rows):
    assert images_apart(rows, arguments(), seed=0) is None


def test_an_order_that_is_asked_for_stays_and_is_warned_about(caplog):
    rows = [{"image_id": number // 2} for number in range(8)]
    assert images_apart(rows, arguments(strategy="sequential"), seed=0) is None
    assert "8 rows show 4 images: with train_sampling_strategy sequential" in caplog.text


@pytest.mark.parametrize("method", tiny.METHODS)
def test_the_trainers_of_dual_encoders_keep_images_apart(tmp_path, method):
    """Each image has two captions that are neighbours in the dataset; a random order would bring some together."""
    rows = [{**row, "image_id": f"image {number}"} for number, row in enumerate(tiny.make_rows(6)) for _ in range(2)]
    trainer = tiny.make_trainer(method, tmp_path, rows, data_seed=3)
    for epoch in range(3):
        loader = trainer.get_train_dataloader()
        loader.set_epoch(epoch)
        batches = [[rows[row]["image_id"] for row in batch["row"].tolist()] for batch in loader]
        assert len(batches) == 3
        assert all(len(set(batch)) == 4 for batch in batches)


@pytest.mark.parametrize("kind", [list, datasets.Dataset.from_list])
def test_another_caption_of_the_same_image_is_no_neighbour(kind):
    rows = kind([{"image_id": number // 2, "neighbors": [number ^ 1, (number + 2) % 8]} for number in range(8)])
    paired = RowsWithNeighbors(rows)
    for epoch in range(10):
        paired.set_epoch(epoch)
        assert all(paired[number][1]["row"] == (number + 2) % 8 for number in range(8))
