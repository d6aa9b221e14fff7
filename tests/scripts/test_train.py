"""`compalign train METHOD` is the method's own entry point, in one process or several."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from launch import TWO_PROCESSES, succeed

from compalign.scripts import cli, train


@pytest.mark.parametrize("method", train.METHODS)
def test_the_method_gets_the_rest_of_the_line_and_its_name(method, monkeypatch):
    met = []
    entry = SimpleNamespace(main=lambda arguments, command: met.append((arguments, command)))
    monkeypatch.setitem(sys.modules, f"compalign.trainers.train_{method}", entry)
    assert cli.main(["train", method, "--config", "recipe.yaml", "--seed", "1"]) == 0
    assert met == [(["--config", "recipe.yaml", "--seed", "1"], f"compalign train {method}")]


def test_the_methods_are_the_entry_points(repository):
    entries = {path.stem.removeprefix("train_") for path in (repository / "trainers").glob("train_*.py")}
    assert set(train.METHODS) == entries


def test_help_names_every_method(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--help"])
    listed = capsys.readouterr().out.partition("methods:\n")[2]
    lines = [line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("  ")]
    assert dict(lines) == train.METHODS


@pytest.mark.parametrize("method", train.METHODS)
def test_the_help_of_a_method_is_its_own_page(method, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", method, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: compalign train {method} ")
    assert "--output_dir" in printed
    assert "--per_device_train_batch_size" in printed


def test_an_unknown_method_is_refused_with_the_nearest(capsys):
    assert cli.main(["train", "delga", "--config", "recipe.yaml"]) == 2
    line = "compalign train: unknown method 'delga'; the nearest is 'degla'; accepted: "
    assert capsys.readouterr().err == f"{line}{', '.join(train.METHODS)}\n"


def test_two_processes_start_from_the_module_of_the_command(tmp_path):
    """As where the package is installed and the source tree is not there."""
    flags = {
        "--config": "scripts/recipes/comalign_scenes.yaml",
        "--scenes": 16,
        "--max_steps": 2,
        "--warmup_steps": 0,
        "--per_device_train_batch_size": 4,
        "--features": tmp_path / "features",
        "--output_dir": tmp_path / "heads",
    }
    words = [word for pair in flags.items() for word in pair]
    done = succeed(*TWO_PROCESSES, "-m", "compalign.scripts.cli", "train", "comalign", *words)
    assert "train_samples_per_second" in done.stdout
    record = json.loads(Path(tmp_path, "heads", "run.json").read_text())
    assert record["processes"] == 2
    assert record["arguments"]["max_steps"] == 2
    assert (tmp_path / "heads" / "model.safetensors").is_file()
