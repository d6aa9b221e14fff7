"""`compalign lmms` hands lmms-eval's flags over; lmms-eval itself is not needed to be told about."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from compalign.scripts import cli, lmms


@pytest.fixture
def lines(monkeypatch) -> list[list[str]]:
    """The command lines that a stand-in for lmms-eval meets."""
    met: list[list[str]] = []
    contents = {
        "lmms_eval": {},
        "lmms_eval.__main__": {"cli_evaluate": lambda: met.append(list(sys.argv))},
        "lmms_eval.models": {},
        "lmms_eval.models.simple": {"llava_hf": ModuleType("llava_hf")},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["lmms_eval.models.simple"].llava_hf.model_map = {"llava": "theirs"}
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return met


def test_model_and_tasks_are_added_where_they_are_not_given(lines):
    assert cli.main(["lmms", "--model_args", "pretrained=runs/cal", "--batch_size", "1"]) == 0
    given = ["--model_args", "pretrained=runs/cal", "--batch_size", "1"]
    assert lines == [["lmms-eval", *given, "--model", "llava_hf", "--tasks", lmms.TASKS]]


@pytest.mark.parametrize("tasks", [["--tasks", "mmstar"], ["--tasks=mmstar"]])
def test_given_flags_are_kept(tasks, lines):
    cli.main(["lmms", *tasks, "--model", "llava_hf"])
    assert lines == [["lmms-eval", *tasks, "--model", "llava_hf"]]


def test_its_llava_knows_our_configurations(lines):
    cli.main(["lmms"])
    known = sys.modules["lmms_eval.models.simple"].llava_hf.model_map
    assert {name: getattr(known[name], "__name__", known[name]) for name in known} == {
        "llava": "theirs",
        "llava_cal": "LlavaCALForConditionalGeneration",
        "llava_next_cal": "LlavaNextCALForConditionalGeneration",
    }


@pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is not None, reason="lmms-eval is installed")
def test_without_lmms_eval_one_line_says_how_to_install_it(capsys):
    assert cli.main(["lmms", "--tasks", "mmstar"]) == 2
    assert capsys.readouterr().err == "compalign lmms: lmms-eval is not installed: pip install lmms-eval==0.7.3\n"
