"""Checkpoints are read without running their code, and pass through memory one shard at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from official_checkpoints import llava_config, llava_weights, save_sharded_bin
from safetensors.torch import load_file, save_file

from compalign.modeling.conversion import Recipe, open_checkpoint, sha256, write_shards

WEIGHTS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor(2.0, dtype=torch.float64),
    "c": torch.ones(4).bfloat16(),
}


def save(folder, form):
    """The same weights in a file of each form that checkpoints have."""
    if form == "safetensors":
        save_file(WEIGHTS, folder / "model.safetensors", {"epoch": "5", "name": "tiny"})
    elif form == "training":
        optimizer = {"state": {0: {"exp_avg": torch.zeros(3), "step": 7}}}
        training = {"epoch": 5, "name": "tiny", "state_dict": WEIGHTS, "optimizer": optimizer, "scaler": {"scale": 2.0}}
        torch.save(training, folder / "epoch_5.pt")
    elif form == "before torch 1.6":
        torch.save(WEIGHTS, folder / "weights.pth", _use_new_zipfile_serialization=False)
    else:
        save_sharded_bin(WEIGHTS, folder, shards=2)


@pytest.mark.parametrize("form", ["safetensors", "training", "before torch 1.6", "shards"])
def test_every_form_gives_the_same_tensors(tmp_path, form):
    save(tmp_path, form)
    source = open_checkpoint(tmp_path)
    assert source.places.keys() == WEIGHTS.keys()
    assert {(name, t.device.type, t.shape, t.dtype) for name, t in source.shapes.items()} == {
        (name, "meta", t.shape, t.dtype) for name, t in WEIGHTS.items()
    }
    read = source.read(["c", "a"])
    assert read.keys() == {"a", "c"}
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in read.items())
    about = {"training": {"epoch": 5, "name": "tiny"}, "safetensors": {"epoch": "5", "name": "tiny"}}
    assert source.about == about.get(form, {})


def test_a_pickle_that_runs_code_is_refused_before_it_runs(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"evil\.pt .*it names io\.open.*nothing was run\. Ask for a safetensors file"):
        open_checkpoint(shared / "data" / "formats" / "evil.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1}, "is no state dict and holds no state dict under 'state_dict'; besides tensors it holds epoch"),
        ({"state_dict": {"a": torch.zeros(1), "b": 3}}, "besides tensors it holds b"),
        ([torch.zeros(1)], "besides tensors it holds nothing"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message):
        open_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("form", ["safetensors", "training"])
def test_a_cut_file_is_named(tmp_path, form):
    save(tmp_path, form)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=path.name):
        open_checkpoint(path)


def test_a_folder_must_leave_no_choice(tmp_path):
    with pytest.raises(ValueError, match="found: none"):
        open_checkpoint(tmp_path)
    torch.save(WEIGHTS, tmp_path / "epoch_1.pt")
    torch.save(WEIGHTS, tmp_path / "epoch_2.pt")
    with pytest.raises(ValueError, match=r"found: epoch_1\.pt, epoch_2\.pt"):
        open_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        open_checkpoint(tmp_path / "epoch_3.pt")


@pytest.mark.parametrize("shard", ["missing.bin", "../elsewhere.bin"])
def test_an_index_lists_files_beside_it(tmp_path, shard):
    torch.save(WEIGHTS, tmp_path / "elsewhere.bin")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(FileNotFoundError, match=f"lists the shard {shard}, which is no file beside it"):
        open_checkpoint(folder)


def test_an_index_tells_the_truth(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "shard.bin")
    index = {"weight_map": {"a": "shard.bin", "lost": "shard.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lists tensors of shard\.bin that are not in it: lost"):
        open_checkpoint(tmp_path)


def test_shards_and_their_index_hold_what_one_file_would(tmp_path):
    save(tmp_path, "training")
    source = open_checkpoint(tmp_path)
    plan = {name: Recipe((name,), lambda tensor: tensor) for name in WEIGHTS}
    (single,) = write_shards(plan, source, tmp_path / "one")
    files = write_shards(plan, source, tmp_path / "many", shard_bytes=24)
    assert [path.name for path in files] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 24 + 8 + 8
    together = {}
    for path in files:
        held = load_file(path)
        assert {index["weight_map"][name] for name in held} == {path.name}
        together |= held
    assert together.keys() == load_file(single).keys() == WEIGHTS.keys()
    assert all(torch.equal(together[name], tensor) for name, tensor in WEIGHTS.items())


def test_tied_tensors_and_parts_of_one_are_written_apart(tmp_path):
    torch.save({"whole": torch.arange(6.0)}, tmp_path / "w.pt")
    plan = {
        "first": Recipe(("whole",), lambda tensor: tensor[:3]),
        "same": Recipe(("whole",), lambda tensor: tensor),
        "last": Recipe(("whole",), lambda tensor: tensor[3:]),
    }
    (path,) = write_shards(plan, open_checkpoint(tmp_path), tmp_path / "out")
    assert {name: t.tolist() for name, t in load_file(path).items()} == {
        "first": [0, 1, 2],
        "same": [0, 1, 2, 3, 4, 5],
        "last": [3, 4, 5],
    }


def test_the_fingerprint_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


MEASURE = """
import sys
import torch
from compalign.scripts.conversion import routes  # imported by main otherwise, and then measured
from compalign.scripts.convert import main

def memory(kind):
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith(kind))

torch.set_num_threads(1)
before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forgets the peak of the imports
main(["--source", sys.argv[1], "--output_dir", sys.argv[2], "--shard_gb", sys.argv[3]])
print("peak", memory("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux's /proc"
)
def test_memory_holds_one_shard_and_not_the_model(tmp_path):
    """208 MB in one file become shards of 20 MB."""
    config = llava_config(hidden=1024, inner=2816, layers=8)
    weights = llava_weights(config)
    source = tmp_path / "llava"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config))
    torch.save(weights, source / "pytorch_model.bin")
    total = sum(tensor.nbytes for tensor in weights.values()) / 1e6
    assert total > 200
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "out"), "0.02"],
        check=True,
        capture_output=True,
        text=True,
    )
    peak = float(done.stdout.split("peak")[1])
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 10
    # Sources and results of a shard, and code that the first conversion loads: 45 MB measured, 211 MB with one shard.
    assert peak < 100
