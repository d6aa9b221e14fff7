"""compalign speed: the first word says what is measured; figures are printed and written."""

import json

import pytest

from compalign.scripts import speed
from compalign.scripts.speed import timing


def test_training_measures_every_path(tmp_path):
    figures = speed.main(["training", "--tiny", "--batch", "2", "--repeats", "1", "--output_dir", str(tmp_path)])
    assert len(figures) == 7
    assert all(value > 0 for value in figures.values())
    assert json.loads((tmp_path / "speed.json").read_text())["figures"].keys() == figures.keys()


def test_reading_measures_the_store_against_plain_files(tmp_path, capsys):
    flags = ["--vectors", "420", "--width", "8", "--batch", "64", "--repeats", "1"]
    figures = speed.main(["store", *flags, "--output_dir", str(tmp_path)])
    assert len(figures) == 7
    assert all(value > 0 for value in figures.values())
    written = json.loads((tmp_path / "speed.json").read_text())
    assert written["setting"].endswith("420 features of 8 numbers in float32, 64 per read")
    assert written["setting"] in capsys.readouterr().out


def test_figures_are_only_printed_without_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    timing.report_figures({"steps per second": 12.5}, "a setting", None)
    assert capsys.readouterr().out.endswith("a setting\nsteps per second          12.5\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_everything_that_can_be_measured(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        speed.main(arguments)
    printed = capsys.readouterr().out
    assert printed.startswith("usage: compalign speed MEASUREMENT ")
    lines = {line.split()[0] for line in printed.rpartition("measurements:")[2].splitlines() if line.startswith("  ")}
    assert lines == set(speed.MEASUREMENTS)


@pytest.mark.parametrize("word", speed.MEASUREMENTS)
def test_every_measurement_explains_itself_and_has_a_module(word, capsys):
    with pytest.raises(SystemExit, match="0"):
        speed.main([word, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: compalign speed {word} ")
    assert "--output_dir" in printed
    with pytest.raises(ValueError, match="unknown key 'benchmark'"):
        speed.main([word, "--benchmark", "x"])


def test_another_word_is_refused_with_the_accepted_ones():
    with pytest.raises(
        ValueError,
        match=r"unknown measurement 'trainings'; the nearest is 'training'; accepted: training, cal, evaluation, store",
    ):
        speed.main(["trainings"])
