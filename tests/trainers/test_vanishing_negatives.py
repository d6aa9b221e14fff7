"""A training signal that would vanish is said at the start, or refused."""

import pytest
import tiny
import torch
from datasets import Dataset

from compalign.trainers.dual_encoder import DualEncoderCollator, count_negatives

ROWS = tiny.make_rows(8)


def without(rows, *names):
    """The rows without some columns."""
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


@pytest.mark.parametrize("method", tiny.METHODS)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_rows_without_a_negative_are_refused(method, as_dataset, tmp_path):
    rows = without(ROWS, "negative_captions", "negative_mask")
    rows = [{**row, "hard_negatives": ["a", "b"]} for row in rows]
    trainer = tiny.make_trainer(method, tmp_path, Dataset.from_list(rows) if as_dataset else rows, max_steps=1)
    with pytest.raises(
        ValueError, match=r"none of 8 rows has a negative.*columns are .*hard_negatives.*num_negatives to 0"
    ):
        trainer.train()


def test_plain_contrast_is_trained_where_it_is_asked_for(tmp_path):
    rows = without(ROWS, "negative_captions", "negative_mask")
    tiny.make_trainer("negclip", tmp_path, rows, max_steps=1, num_negatives=0).train()


def test_the_share_of_rows_with_negatives_is_said(tmp_path, capsys):
    rows = [*ROWS[:6], *without(ROWS[6:], "negative_captions", "negative_mask")]
    tiny.make_trainer("degla", tmp_path, rows, max_steps=1).train()
    assert "75.0% of 8 rows have negatives" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ({"negative_captions": "one text"}, 1),
        ({"negative_captions": ["a", "b"]}, 2),
        ({"negative_captions": ["a", "b", "c"], "negative_mask": [1, 0, 1]}, 2),
        ({"negative_captions": []}, 0),
        ({"negative_captions": None}, 0),
        ({}, 0),
    ],
)
def test_usable_negatives_are_counted(row, count):
    assert count_negatives([{"caption": "x", **row}]) == [count]


def collate(row, num_negatives=1):
    """The batch of two equal rows."""
    rows = [{**ROWS[0], "row": place, "epoch": 0, "negative_mask": None, **row} for place in range(2)]
    return DualEncoderCollator(tiny.make_processor(), num_negatives)(rows)


def test_a_text_in_place_of_a_list_is_one_negative():
    batch = collate({"caption": "a red cat", "negative_captions": "a blue cat"})
    one = collate({"caption": "a red cat", "negative_captions": ["a blue cat"]})
    assert torch.equal(batch["input_ids"], one["input_ids"])
    assert batch["negative_mask"].tolist() == [[1], [1]]


def test_a_difference_beyond_the_context_length_is_no_negative():
    long = "a red cat above a blue star and " * 20
    batch = collate({"caption": f"{long} a cup", "negative_captions": [f"{long} a heart"]})
    assert batch["negative_mask"].tolist() == [[0], [0]]
    batch = collate({"caption": f"a cup {long}", "negative_captions": [f"a heart {long}"]})
    assert batch["negative_mask"].tolist() == [[1], [1]]
