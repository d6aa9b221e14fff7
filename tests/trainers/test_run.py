"""One run: what it saves, what it records, and the memory that it reports."""

import json
import sys
from types import SimpleNamespace

import psutil
import pytest
import tiny
import torch
from safetensors.torch import load_file

from compalign.data.provenance import git_commit
from compalign.trainers.launch import run
from compalign.trainers.launch.record import LIBRARIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The output of a run of two steps."""
    folder = tmp_path_factory.mktemp("run")
    trainer = tiny.make_trainer("degla", folder, tiny.make_rows(8), max_steps=2, seed=7)
    run.train_and_save(trainer, dtype=torch.float16)
    return folder


def test_a_run_leaves_model_processor_log_and_record(folder):
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.safetensors", "config.json", "processor_config.json", "tokenizer.json"}
    assert names >= {"run.json", "training_log.json", "train_results.json"}
    assert len([entry for entry in json.loads((folder / "training_log.json").read_text()) if "contrast" in entry]) == 2


def test_a_run_records_what_it_takes_to_repeat_it(folder):
    record = json.loads((folder / "run.json").read_text())
    assert record["trainer"] == "DeGLATrainer"
    assert record["commit"] == git_commit()
    assert record["arguments"]["seed"] == 7
    assert record["arguments"]["max_steps"] == 2
    assert "teacher_decay" not in record["arguments"]  # as by default
    assert set(record["versions"]) == set(LIBRARIES)
    assert "token" not in "".join(record["arguments"])


def test_weights_are_saved_in_the_type_that_is_asked_for(folder):
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.float16}


def test_peak_memory_is_in_bytes_on_every_system(monkeypatch):
    resident = psutil.Process().memory_info().rss
    assert resident / 2 < run.peak_memory_bytes() < 100 * resident
    monkeypatch.setattr(sys, "platform", "win32")
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(run.psutil, "Process", lambda: process)
    assert run.peak_memory_bytes() == 123
