"""The comparison of CAL with plain fine-tuning: it goes on where it stopped, and its figures are those of its runs."""

import json

import pytest

from compalign.data.scenes import COLOURS, NOUNS, SIZES
from compalign.scripts.scenes.compare_cal import draw_curves, irrelevant_share, main, steps_to, summary
from compalign.scripts.scenes.word_weights import _by_word, kind_of_word, weighed_words

SMALL = ["--scenes", "8", "--max_steps", "2", "--per_device_train_batch_size", "4", "--language_layers", "1"]


def run(seed, share, cal, accuracies):
    """A run as it is kept, with an accuracy every ten steps."""
    curve = [{"step": 10 * (k + 1), "all": value / 2, "seen": value} for k, value in enumerate(accuracies)]
    weights = {"1": {"attribute": 4.0, "function": 1.5}, "3": {"attribute": 3.0, "function": 2.5}}
    return {"seed": seed, "share": share, "cal": cal, "curve": curve, "irrelevant_words": share, "weights": weights}


RUNS = [
    run(0, 0.0, True, [0.5, 0.9]),
    run(1, 0.0, True, [0.9, 0.9]),
    run(0, 0.0, False, [0.4, 0.8]),
    run(1, 0.0, False, [0.5, 0.6]),
]


def test_a_comparison_goes_on_where_it_stopped(repository, tmp_path, capsys):
    flags = ["--config", str(repository / "scripts" / "recipes" / "cal_scenes.yaml"), *SMALL]
    flags += ["--vision_tower", str(repository / "hub_cards" / "released" / "scenes_base"), "--seeds", "1"]
    flags += ["--shares", "0", "0.5", "--measure_steps", "1", "--reading_steps", "2"]
    flags += ["--scenes_asked", "5", "--captions_weighed", "3", "--output_dir", str(tmp_path)]
    first = main(flags)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed*.json")}
    assert len(written) == 4
    assert [point["step"] for point in first[0]["curve"]] == [1, 2]
    next(iter(written)).unlink()
    assert main(flags) == first  # the same run again, to the digit
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("seed*.json")}
    assert sum(kept[path] == time for path, time in written.items()) == 3
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    assert "Mean weight of CAL at 50%, window 3: attribute" in (tmp_path / "table.md").read_text()
    assert "Blind, the most frequent answer" in capsys.readouterr().out


def test_the_table_gives_means_ranges_and_levels_that_were_not_reached(tmp_path):
    text = summary(RUNS, 0.8, 0.25)
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["0%", "accuracy at the end, %", "45.0 (45.0 to 45.0)", "35.0 (30.0 to 40.0)"] in lines
    assert ["0%", "steps to 80% of colour and object", "15.0 (10.0 to 20.0)", "not reached by 1 of 2"] in lines
    assert "window 1: attribute 4.00, function 1.50" in text
    assert "Blind, the most frequent answer of each kind of question: 25.0 %." in text
    draw_curves(RUNS, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_a_level_is_reached_at_its_first_measured_step():
    curve = json.loads(json.dumps(RUNS[0]["curve"]))
    assert steps_to(curve, 0.5) == 10
    assert steps_to(curve, 0.6) == 20
    assert steps_to(curve, 0.95) == float("inf")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75])
def test_the_share_of_irrelevant_words_is_measured(share):
    assert irrelevant_share(share) == pytest.approx(share, abs=0.05)


def test_every_word_of_the_captions_has_a_kind():
    kinds = {word: kind_of_word(word.strip(",.")) for _, text in weighed_words(300, 32) for word in text.split()}
    assert {kind for word, kind in kinds.items() if word in NOUNS} == {"noun"}
    assert {kind for word, kind in kinds.items() if word in (*COLOURS, *SIZES)} == {"attribute"}
    assert {kinds["left"], kinds["above"]} == {"relation"}
    assert {kinds["a"], kinds["of"], kinds["the"], kinds["photo"]} == {"function"}


def test_tokens_of_one_word_are_joined_where_the_tokenizer_marks_words():
    marked = _by_word(["Ġa", "Ġumb", "rella"], [1.0, 2.0, 3.0])
    assert marked == [("a", [1.0]), ("umbrella", [2.0, 3.0])]
    assert _by_word(["a", "umbrella"], [1.0, 2.0]) == [("a", [1.0]), ("umbrella", [2.0])]
