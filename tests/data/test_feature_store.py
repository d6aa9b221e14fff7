"""A feature store gives back what was put in, under the same fingerprint only, and never from a damaged file."""

import json
import logging
import os
import pickle
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
import torch
import two_processes
from safetensors.torch import load_file

from compalign.data.features import store as feature_store
from compalign.data.features.store import Features, FeatureStore

FINGERPRINT = {"weights": "9f2c", "preprocessing": {"size": 224}}


def keys_of(first: int, last: int) -> list[str]:
    return [sha256(str(number).encode()).hexdigest() for number in range(first, last)]


def vectors(first: int, last: int, width: int = 6) -> torch.Tensor:
    return torch.stack([torch.randn(width, generator=torch.Generator().manual_seed(n)) for n in range(first, last)])


def filled(folder, *bounds: int) -> FeatureStore:
    """A store of the vectors between the first and the last bound, a file for each step."""
    store = FeatureStore(folder, FINGERPRINT)
    for first, last in pairwise(bounds):
        store.append(keys_of(first, last), vectors(first, last))
    return store


@pytest.mark.parametrize("block", [2, 1024])
@pytest.mark.parametrize("reopened", [False, True])
def test_features_come_back_to_the_bit_in_any_order(tmp_path, reopened, block, monkeypatch):
    monkeypatch.setattr(feature_store, "_BLOCK_ROWS", block)
    store = filled(tmp_path, 0, 3, 4, 9)
    if reopened:
        store = FeatureStore(tmp_path, FINGERPRINT)
    memory = Features()
    memory.append(keys_of(0, 9), vectors(0, 9))
    for order in (range(9), [8, 0, 3, 3, 5, 4, 8, 1], [2, 3, 4], [3, 2], [4, 4, 6], [1, 4, 8], []):
        keys = [keys_of(0, 9)[number] for number in order]
        expected = vectors(0, 9)[list(order)]
        assert torch.equal(store.read(keys), expected)
        assert torch.equal(memory.read(keys), expected)
    assert len(store) == 9
    assert keys_of(8, 9)[0] in store
    assert store.missing([*keys_of(7, 11), *keys_of(9, 10)]) == keys_of(9, 11)


def test_a_key_keeps_its_first_vector_and_its_row(tmp_path):
    for store in (filled(tmp_path, 0, 3), Features()):
        if not len(store):
            store.append(keys_of(0, 3), vectors(0, 3))
        row = store.rows(keys_of(2, 3))
        store.append(keys_of(2, 4), vectors(8, 10))
        assert torch.equal(store.read(keys_of(0, 4)), torch.cat([vectors(0, 3), vectors(9, 10)]))
        assert (store.rows(keys_of(2, 3)), len(store)) == (row, 4)
        for wrong in (-1, 5):
            with pytest.raises(ValueError, match="this store has rows 0 to 4"):
                store.take(np.array([0, wrong]))


def test_the_files_are_plain_safetensors(tmp_path):
    (path,) = filled(tmp_path, 0, 3).folder.glob("*.safetensors")
    held = load_file(path)
    assert torch.equal(held["features"], vectors(0, 3))
    assert [bytes(digest).hex() for digest in held["keys"].numpy()] == keys_of(0, 3)


def test_half_precision_rounds_and_refuses_what_it_cannot_hold(tmp_path):
    store = FeatureStore(tmp_path, FINGERPRINT, dtype=torch.float16)
    store.append(keys_of(0, 3), vectors(0, 3))
    read = FeatureStore(tmp_path, FINGERPRINT, dtype=torch.float16).read(keys_of(0, 3))
    assert torch.equal(read, vectors(0, 3).half().float())
    with pytest.raises(ValueError, match="1 of 2 vectors are not finite"):
        store.append(keys_of(3, 5), vectors(3, 5) * torch.tensor([[1.0], [1e6]]))
    assert FeatureStore(tmp_path, FINGERPRINT).missing(keys_of(0, 3)) == keys_of(0, 3)
    with pytest.raises(ValueError, match=r"torch.int8; must be one of torch.float32, torch.float16"):
        FeatureStore(tmp_path, FINGERPRINT, dtype=torch.int8)


def test_another_fingerprint_knows_nothing(tmp_path):
    filled(tmp_path, 0, 3)
    other = FeatureStore(tmp_path, {**FINGERPRINT, "preprocessing": {"size": 336}})
    assert (len(other), other.missing(keys_of(0, 3))) == (0, keys_of(0, 3))
    turned = dict(reversed(FINGERPRINT.items()))
    assert len(FeatureStore(tmp_path, turned)) == 3


def test_a_folder_that_belongs_to_another_fingerprint_is_refused(tmp_path):
    path = filled(tmp_path, 0, 3).folder / "fingerprint.json"
    told = json.loads(path.read_text())
    assert told == {**FINGERPRINT, "stored as": "float32"}
    path.write_text(json.dumps({**told, "weights": "0000"}))
    with pytest.raises(ValueError, match=r'fingerprint.json records .*"0000".*"9f2c"'):
        FeatureStore(tmp_path, FINGERPRINT)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        FeatureStore(tmp_path, FINGERPRINT)


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_that_was_cut_short_is_named_and_its_keys_are_missing_again(tmp_path, left, caplog):
    folder = filled(tmp_path, 0, 3, 7).folder
    path = sorted(folder.glob("*.safetensors"))[1]
    os.truncate(path, left % path.stat().st_size)
    with caplog.at_level(logging.WARNING):
        store = FeatureStore(tmp_path, FINGERPRINT)
    assert path.name in caplog.text
    assert "their 4 features are missing" in caplog.text
    assert path.with_suffix(".broken").exists()
    assert store.missing(keys_of(0, 7)) == keys_of(3, 7)
    with pytest.raises(ValueError, match=f"4 of 7 keys have no features, the first is '{keys_of(3, 4)[0]}'"):
        store.read(keys_of(0, 7))
    store.append(keys_of(3, 7), vectors(3, 7))
    assert torch.equal(FeatureStore(tmp_path, FINGERPRINT).read(keys_of(0, 7)), vectors(0, 7))


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    store = filled(tmp_path, 0, 3)
    before = sorted(store.folder.iterdir())

    def full_disk(tensors, path):
        path.write_bytes(b"begun")
        raise OSError("no space left on device")

    monkeypatch.setattr(feature_store, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.append(keys_of(3, 5), vectors(3, 5))
    assert sorted(store.folder.iterdir()) == before
    assert store.missing(keys_of(0, 5)) == keys_of(3, 5)


def test_a_store_takes_in_what_others_wrote(tmp_path):
    mine, other = FeatureStore(tmp_path, FINGERPRINT), FeatureStore(tmp_path, FINGERPRINT)
    rows = []
    for first in (0, 4, 8):
        mine.append(keys_of(first, first + 2), vectors(first, first + 2))
        other.append(keys_of(first + 2, first + 4), vectors(first + 2, first + 4))
        rows.append(mine.rows(keys_of(first, first + 4)))
    assert torch.equal(other.read(keys_of(0, 12)), vectors(0, 12))
    assert torch.equal(mine.take(np.concatenate(rows)), vectors(0, 12))


def append_many(folder) -> None:
    rank = torch.distributed.get_rank()
    store = FeatureStore(folder, FINGERPRINT)
    for first in range(rank, 40, 2):
        store.append(keys_of(first, first + 2), vectors(first, first + 2))


def test_two_processes_append_at_once(tmp_path):
    two_processes.launch(append_many, tmp_path)
    store = FeatureStore(tmp_path, FINGERPRINT)
    assert len(store) == 41
    assert torch.equal(store.read(keys_of(0, 41)), vectors(0, 41))


def test_rows_keep_their_numbers_in_another_process(tmp_path):
    mine = FeatureStore(tmp_path, FINGERPRINT)
    filled(tmp_path, 0, 3)  # older files that are found later
    mine.append(keys_of(3, 5), vectors(3, 5))
    rows = mine.rows(keys_of(0, 5))
    assert not np.array_equal(rows, FeatureStore(tmp_path, FINGERPRINT).rows(keys_of(0, 5)))
    sent = pickle.dumps(mine)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).take(rows), vectors(0, 5))
    os.truncate(next(mine.folder.glob("*.safetensors")), 10)
    with pytest.raises(ValueError, match="damaged after this store was opened"):
        pickle.loads(sent)


def test_mapped_files_hold_no_descriptors(tmp_path):
    """A large store has more files than a process may have open."""
    filled(tmp_path, *range(0, 20))
    before = len(os.listdir("/proc/self/fd"))
    store = FeatureStore(tmp_path, FINGERPRINT)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(store) == 19


@pytest.mark.parametrize(
    ("keys", "features", "message"),
    [
        (keys_of(3, 5), vectors(3, 6), r"2 keys with features of shape \(3, 6\)"),
        (keys_of(3, 5), vectors(3, 5).flatten(), r"shape \(12,\)"),
        (keys_of(3, 5), vectors(3, 5, width=4), "width 4; the store holds width 6"),
        (["short"], vectors(3, 4), "key 'short'; must be a hex SHA-256"),
        (keys_of(3, 5), vectors(3, 5) / torch.tensor([[1.0], [0.0]]), "1 of 2 vectors are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_kept(tmp_path, keys, features, message):
    memory = Features()
    memory.append(keys_of(0, 3), vectors(0, 3))
    for store in (filled(tmp_path, 0, 3), memory):
        with pytest.raises(ValueError, match=message):
            store.append(keys, features)
        assert len(store) == 3
