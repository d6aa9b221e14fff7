"""Rows know where they stand, an unreadable image stops no run, and neighbours are another row each epoch."""

import json
import logging
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from compalign.data import load_captions
from compalign.data.images import check_image
from compalign.trainers.rows import IndexedRows, RowsWithNeighbors


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class UnreadableRows(list):
    """Rows of which some fail as a damaged file does."""

    def __init__(self, count, bad=()):
        super().__init__({"caption": f"caption {index}"} for index in range(count))
        self.bad = set(bad)
        self.reads = 0

    def __getitem__(self, index):
        self.reads += 1
        if index in self.bad:
            raise OSError("image file is truncated")
        return super().__getitem__(index)


def neighbor_rows(neighbors):
    """Rows that name the given neighbours."""
    return [{"caption": f"caption {index}", "neighbors": near} for index, near in enumerate(neighbors)]


def places(items):
    """Where the rows of each item stand."""
    return [[row["row"] for row in item] for item in items]


@pytest.fixture
def photographs(tmp_path):
    """Four PNGs, of which the third is damaged where only decoding finds it."""
    noise = np.random.default_rng(0)
    records = []
    for index in range(4):
        path = tmp_path / f"{index}.png"
        Image.fromarray(noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path, "PNG")
        records.append({"image": path.name, "caption": f"photograph {index}"})
    damaged = tmp_path / "2.png"
    data = damaged.read_bytes()
    damaged.write_bytes(data[:600] + bytes(400) + data[1000:])
    check_image(damaged)  # its header and its end are sound
    table = tmp_path / "captions.jsonl"
    table.write_text("\n".join(map(json.dumps, records)))
    return load_captions(table)


def test_rows_know_their_place_and_the_epoch():
    rows = IndexedRows(UnreadableRows(3))
    assert len(rows) == 3
    assert rows[2] == {"caption": "caption 2", "row": 2, "epoch": 0}
    rows.set_epoch(5)
    assert rows[0] == {"caption": "caption 0", "row": 0, "epoch": 5}


def test_a_running_worker_learns_of_the_next_epoch():
    rows = IndexedRows(UnreadableRows(4))
    loader = DataLoader(rows, num_workers=1, persistent_workers=True, collate_fn=lambda items: items[0]["epoch"])
    seen = []
    for epoch in (0, 3):
        rows.set_epoch(epoch)
        seen.append(list(loader))
    assert seen == [[0] * 4, [3] * 4]


def test_a_photograph_damaged_in_its_middle_is_replaced_and_named(photographs, caplog):
    rows = IndexedRows(photographs)
    with caplog.at_level(logging.WARNING):
        captions = [rows[index]["caption"] for index in (0, 1, 2, 3, 2)]
    assert captions == ["photograph 0", "photograph 1", "photograph 3", "photograph 3", "photograph 3"]
    (record,) = caplog.records
    assert "row 2 cannot be read" in record.message
    assert "(1 so far)" in record.message


def test_a_photograph_damaged_in_its_middle_stops_the_run_if_asked_to(photographs):
    rows = IndexedRows(photographs, on_bad_row="raise")
    assert rows[1]["row"] == 1
    with pytest.raises(ValueError, match="row 2 cannot be read: ") as caught:
        rows[2]
    assert isinstance(caught.value.__cause__, OSError)


def test_bad_rows_are_counted_and_each_is_read_once(caplog):
    source = UnreadableRows(6, bad=[1, 2, 5])
    rows = IndexedRows(source)
    with caplog.at_level(logging.WARNING):
        first = [rows[index]["row"] for index in range(6)]
        reads = source.reads
        assert [rows[index]["row"] for index in range(6)] == first
    assert first == [0, 3, 3, 3, 4, 0]  # past the end it goes on from the start
    assert [record.message.split(" ", 2)[1] for record in caplog.records] == ["1", "2", "5"]
    assert "(3 so far)" in caplog.records[-1].message
    assert source.reads == reads + 6


def read_batches(rows, size):
    """Where the rows of each batch of a data loader stand, in order."""
    return [[row["row"] for row in batch] for batch in DataLoader(rows, size, collate_fn=list)]


def test_no_row_comes_twice_in_a_batch_for_a_bad_one():
    assert read_batches(IndexedRows(UnreadableRows(8, bad=[1, 2, 5])), 4) == [[0, 4, 6, 3], [4, 0, 6, 7]]


def test_a_batch_is_smaller_where_no_row_is_left_for_a_bad_one():
    assert read_batches(IndexedRows(UnreadableRows(4, bad=[1, 2])), 4) == [[0, 3]]
    with pytest.raises(ValueError, match="no readable row among 4"):
        read_batches(IndexedRows(UnreadableRows(4, bad=range(4))), 2)


def test_no_readable_row_is_an_error():
    with pytest.raises(ValueError, match="no readable row among 3"):
        IndexedRows(UnreadableRows(3, bad=range(3)))[1]


def test_a_mistake_in_the_dataset_stops_the_run_and_is_told():
    class Broken(UnreadableRows):
        def __getitem__(self, index):
            return {"caption": "here"}["image"]

    with pytest.raises(ValueError, match="no readable row among 3; the last: 'image'") as caught:
        IndexedRows(Broken(3))[0]
    assert isinstance(caught.value.__cause__, KeyError)


def test_rows_without_neighbors_come_alone():
    items = RowsWithNeighbors(UnreadableRows(3))
    assert places(items[index] for index in range(3)) == [[0], [1], [2]]


def test_a_neighbor_is_a_function_of_seed_epoch_and_index():
    source = neighbor_rows([list(range(100))] * 100)

    def drawn(seed, epoch, order=range(100)):
        rows = RowsWithNeighbors(source, seed=seed)
        rows.set_epoch(epoch)
        items = {index: rows[index] for index in order}
        return places(items[index] for index in range(100))

    first = drawn(0, 0)
    assert first == drawn(0, 0, order=reversed(range(100)))
    for other in (drawn(0, 1), drawn(1, 0)):
        assert sum(one != two for one, two in zip(first, other, strict=True)) > 80


def test_a_neighbor_is_one_of_those_named_and_each_gets_its_turn():
    rows = RowsWithNeighbors(neighbor_rows([[0, 2, 3], [0], [1, 0], [2]]))
    met = set()
    for epoch in range(30):
        rows.set_epoch(epoch)
        (row, neighbor) = rows[0]
        assert row["row"] == 0
        assert neighbor["caption"] == f"caption {neighbor['row']}"
        assert neighbor["epoch"] == epoch
        met.add(neighbor["row"])
    assert met == {2, 3}  # a row that names itself is not its own neighbour


@pytest.mark.parametrize("none", [[], None, [1]])
def test_a_row_without_a_neighbor_gets_any_other_row(none):
    rows = RowsWithNeighbors(neighbor_rows([[1], none, [3], [2], [0]]))
    met = set()
    for epoch in range(40):
        rows.set_epoch(epoch)
        met.add(tuple(places([rows[1]])[0]))
    assert met == {(1, other) for other in (0, 2, 3, 4)}


def test_an_unreadable_neighbor_is_not_replaced_by_the_row_itself():
    source = UnreadableRows(4, bad=[1])
    for row, near in zip(list.__iter__(source), ([1], [0], [1], [1]), strict=True):
        row["neighbors"] = near
    rows = RowsWithNeighbors(source)
    assert places(rows[index] for index in range(4)) == [[0, 2], [2, 3], [2, 3], [3, 2]]


def test_a_row_with_nothing_beside_it_is_an_error():
    with pytest.raises(ValueError, match="no readable row among 1"):
        RowsWithNeighbors(neighbor_rows([[]]))[0]


@pytest.mark.parametrize(
    "error", [AttributeError("no frames"), struct.error("EXIF"), RuntimeError("template"), KeyError("x")]
)
def test_a_row_that_cannot_be_used_is_replaced_whatever_it_raises(error):
    class Rows(list):
        def __getitem__(self, index):
            if index == 1:
                raise error
            return {"caption": str(index)}

    rows = IndexedRows(Rows([0, 1, 2]))
    assert rows[1]["row"] == 2


def test_lack_of_memory_is_not_a_bad_row():
    class Rows(list):
        def __getitem__(self, index):
            raise MemoryError

    with pytest.raises(MemoryError):
        IndexedRows(Rows([0]))[0]


def test_the_reason_is_told_where_no_row_can_be_used():
    class Rows(list):
        def __getitem__(self, index):
            raise TypeError("unhashable")

    with pytest.raises(ValueError, match="no readable row among 2; the last: unhashable"):
        IndexedRows(Rows([0, 1]))[0]
