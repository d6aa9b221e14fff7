"""Batches: captions, then each row's negatives; true masks; random choices as functions of seed, epoch and row."""

import random

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from compalign.data.images import open_image
from compalign.trainers.dual_encoder import DualEncoderCollator, crop_box, split_captions
from compalign.trainers.negclip import NeighborCollator

PROCESSOR = tiny.make_processor()
NOISE = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_row(place, caption="a red cat", negatives=None, mask=None, epoch=0, image=None):
    """A row as the trainer hands it over."""
    row = {
        "image": Image.fromarray(NOISE[place % 4]) if image is None else image,
        "caption": caption,
        "row": place,
        "epoch": epoch,
    }
    optional = {"negative_captions": negatives, "negative_mask": mask}
    return row | {name: value for name, value in optional.items() if value is not None}


def read_texts(batch):
    """The texts of a batch: one caption a row, and its negatives."""
    texts = PROCESSOR.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    captions, negatives = split_captions(torch.arange(len(texts)), len(batch["row"]))
    return [texts[place] for place in captions], [[texts[place] for place in row] for row in negatives]


def collate(rows, num_negatives=2, **settings):
    """The batch of these rows."""
    return DualEncoderCollator(PROCESSOR, num_negatives, **settings)(rows)


def test_captions_come_first_then_the_negatives_row_by_row():
    batch = collate([make_row(0, "one", ["one a", "one b"]), make_row(7, "two", ["two a", "two b"])])
    texts = PROCESSOR.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert texts == ["one", "two", "one a", "one b", "two a", "two b"]
    assert batch["negative_mask"].tolist() == [[1, 1], [1, 1]]
    assert batch["row"].tolist() == [0, 7]
    assert batch["pixel_values"].shape == (2, 3, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)


def test_missing_and_masked_negatives_are_the_caption_itself():
    rows = [
        make_row(0, "one", ["", "one b"], [0, 1]),
        make_row(1, "two", ["two a"]),
        make_row(2, "three", []),
        make_row(3, "four"),
    ]
    batch = collate(rows)
    assert read_texts(batch) == (
        ["one", "two", "three", "four"],
        [["one", "one b"], ["two a", "two"], ["three", "three"], ["four", "four"]],
    )
    assert batch["negative_mask"].tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("choice", ["first", "random"])
def test_without_negatives_a_batch_is_captions_only(choice):
    rows = [make_row(0, "one", ["one a"]), make_row(1, "two")]
    batch = collate(rows, num_negatives=0, negative_choice=choice)
    assert read_texts(batch) == (["one", "two"], [[], []])
    assert batch["negative_mask"].shape == (2, 0)
    assert batch["negative_mask"].dtype == torch.long


def test_the_first_of_more_negatives_keep_their_places():
    row = make_row(0, "one", ["a", "b", "c", "d"], [1, 0, 1, 1])
    batch = collate([row])
    assert read_texts(batch)[1] == [["a", "one"]]
    assert batch["negative_mask"].tolist() == [[1, 0]]


def test_random_negatives_are_valid_distinct_and_all_get_their_turn():
    met = set()
    for epoch in range(30):
        row = make_row(0, "one", ["a", "b", "c", "d"], [1, 0, 1, 1], epoch=epoch)
        batch = collate([row], negative_choice="random")
        ((first, second),) = read_texts(batch)[1]
        assert first != second
        assert batch["negative_mask"].tolist() == [[1, 1]]
        met |= {first, second}
    assert met == {"a", "c", "d"}


def test_random_negatives_of_a_row_with_too_few_valid_ones():
    batch = collate([make_row(0, "one", ["a", "b", "c"], [0, 1, 0])], negative_choice="random")
    assert read_texts(batch)[1] == [["b", "one"]]
    assert batch["negative_mask"].tolist() == [[1, 0]]


def test_padding_changes_the_length_and_nothing_else():
    rows = [make_row(0, "one", ["a much longer negative than the others"]), make_row(1, "two", ["two a"])]
    longest, full = (collate(rows, 1, padding=padding) for padding in ("longest", "max_length"))
    length = longest["attention_mask"].sum(-1).max()
    assert longest["input_ids"].shape == (4, length)
    assert full["input_ids"].shape == (4, 77)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(full[name][:, :length], longest[name])
    assert not full["attention_mask"][:, length:].any()


def test_captions_beyond_the_context_are_cut():
    batch = collate([make_row(0, "cat " * 100)], num_negatives=0)
    assert batch["input_ids"].shape == (1, 77)
    assert batch["input_ids"][0, -1] == PROCESSOR.tokenizer.eos_token_id


def test_without_a_crop_pixels_are_the_processors_own():
    rows = [make_row(place) for place in range(4)]
    expected = PROCESSOR.image_processor([row["image"] for row in rows], return_tensors="pt")["pixel_values"]
    assert torch.equal(collate(rows)["pixel_values"], expected)


def test_a_crop_of_everything_is_the_whole_image():
    rows = [make_row(0, image=Image.fromarray(NOISE[0]).resize((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)))]
    assert torch.equal(collate(rows, crop_scale=(1.0, 1.0))["pixel_values"], collate(rows)["pixel_values"])


def test_a_row_is_cropped_alike_in_every_batch():
    rows = [make_row(place, negatives=["a", "b", "c"]) for place in range(4)]
    settings = {"crop_scale": (0.2, 0.8), "negative_choice": "random"}
    together = collate(rows, **settings)
    backwards = collate(rows[::-1], **settings)
    assert torch.equal(backwards["pixel_values"], together["pixel_values"].flip(0))
    assert read_texts(backwards)[1] == read_texts(together)[1][::-1]
    for place, row in enumerate(rows):
        assert torch.equal(collate([row], **settings)["pixel_values"][0], together["pixel_values"][place])


@pytest.mark.parametrize("other", [{"epoch": 1}, {"place": 4}, {"seed": 1}])
def test_another_epoch_row_or_seed_is_cropped_otherwise(other):
    def pixels(place=0, epoch=0, seed=0):  # places 0 and 4 hold the same image
        return collate([make_row(place, epoch=epoch)], crop_scale=(0.2, 0.8), seed=seed)["pixel_values"]

    assert torch.equal(pixels(), pixels())
    assert not torch.equal(pixels(), pixels(**other))


@pytest.mark.parametrize("crop_scale", [None, (0.5, 0.9)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_image_mode_is_accepted(mode, crop_scale):
    if mode == "I;16":
        image = Image.fromarray(NOISE[0, :, :, 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(NOISE[0]).convert(mode)
    assert image.mode == mode
    found = collate([make_row(0, image=image)], crop_scale=crop_scale)["pixel_values"]
    expected = collate([make_row(0, image=open_image(image))], crop_scale=crop_scale)["pixel_values"]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("crop_scale", [None, (0.5, 0.9)])
def test_transparent_pixels_are_white(crop_scale):
    found, expected = (
        collate([make_row(0, image=Image.new(mode, (40, 40), colour))], crop_scale=crop_scale)["pixel_values"]
        for mode, colour in (("RGBA", (0, 0, 0, 0)), ("RGB", "white"))
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (480, 640), (500, 333), (7, 5)])
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.08, 1.0), (0.5, 0.5), (0.2, 0.3)])
def test_crops_lie_inside_the_image_and_cover_the_share_asked_for(size, scale):
    width, height = size
    largest = min(1, 4 / 3 * height / width, 4 / 3 * width / height)  # no ratio up to 4 : 3 covers more
    boxes = [crop_box(size, scale, random.Random(draw)) for draw in range(500)]
    for left, upper, right, lower in boxes:
        assert 0 <= left < right <= width + 1e-9
        assert 0 <= upper < lower <= height + 1e-9
        share = (right - left) * (lower - upper) / (width * height)
        assert min(scale[0], largest) - 1e-9 <= share <= scale[1] + 1e-9
        assert 3 / 4 - 1e-9 <= (right - left) / (lower - upper) <= 4 / 3 + 1e-9
    assert (len(set(boxes)) > 1) == (largest >= scale[0])


def test_of_an_image_too_narrow_for_a_crop_the_middle_is_taken():
    assert crop_box((100, 30), (0.9, 1.0), random.Random(0)) == (30, 0, 70, 30)
    assert crop_box((30, 100), (0.9, 1.0), random.Random(0)) == (0, 30, 30, 70)


def test_neighbors_follow_all_rows_in_the_same_order():
    names = [("one", "three"), ("two", "four")]
    items = [
        [make_row(2 * first + second, name, [f"{name} a"]) for second, name in enumerate(pair)]
        for first, pair in enumerate(names)
    ]
    batch = NeighborCollator(PROCESSOR, 1)(items)
    assert read_texts(batch) == (["one", "two", "three", "four"], [["one a"], ["two a"], ["three a"], ["four a"]])
    assert batch["row"].tolist() == [0, 2, 1, 3]
    alone = NeighborCollator(PROCESSOR, 1)([item[:1] for item in items])
    assert read_texts(alone) == (["one", "two"], [["one a"], ["two a"]])
