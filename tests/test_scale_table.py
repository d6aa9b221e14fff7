"""The tables of docs/scale.md are those of the kept results, name all that the code has, and still hold."""

import importlib.util
import json

import pytest
import run_cells
import tiny_multimodal

import compalign.trainers
from compalign.scripts.demo import with_tables

ROUNDING = 0.05  # largest difference of a loss that rounding to bfloat16 explains; most where a logit scale is rounded
REFUSED = {"refused": "Not so. Because of this."}


@pytest.fixture(scope="module")
def table(repository):
    """docs/scale_table.py as a module."""
    spec = importlib.util.spec_from_file_location("scale_table", repository / "docs" / "scale_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept(table):
    """The kept outcomes."""
    return table.read_kept()[0]


def test_the_page_shows_the_kept_results(table):
    assert table.PAGE.read_text() == with_tables(table.PAGE, {table.MARK: table.tables(*table.read_kept())})


def test_every_combination_is_kept(kept):
    assert set(kept) == {
        (precision, engine, *line)
        for precision in run_cells.PRECISIONS
        for engine in run_cells.ENGINES
        for line in run_cells.LINES
    }


def test_all_that_the_code_has_stands_in_the_table(repository):
    """A trainer, a family of the tests or a shipped configuration without its lines would be passed over."""
    named = {f"{method.partition(',')[0].replace('-', '')}Trainer" for method, _ in run_cells.LINES}
    assert named == {name for name in dir(compalign.trainers) if name.endswith("Trainer")}
    assert set(run_cells.MULTIMODAL.values()) == set(tiny_multimodal.FAMILIES)
    shipped = {path.stem for path in (repository / "scripts" / "deepspeed").glob("*.json")}
    assert {f"zero{engine.stage}" for engine in run_cells.ENGINES.values() if engine.stage} == shipped


def test_nothing_fails_and_two_processes_are_one(table, kept):
    """In float32 to four digits, in bfloat16 up to rounding; and the steps are long enough to show a wrong one."""
    for (precision, engine, *line), outcome in kept.items():
        assert "fails" not in outcome, (precision, engine, line)
        if "losses" not in outcome:
            continue
        alone = kept[(precision, table.ALONE, *line)]["losses"]
        bound = table.EQUAL if precision == "float32" else ROUNDING
        assert table.largest_difference(outcome["losses"], alone) <= bound, (precision, engine, line)
        assert abs(alone[-1] / alone[0] - 1) > 100 * table.EQUAL, (precision, line)


def test_a_launch_of_today_ends_as_the_table_says(table, kept):
    lines = [("CAL", "LLaVA"), ("CAL, text rows too", "Mllama, `--cal false`"), ("NegCLIP", "SigLIP2 NaFlex")]
    for cell, outcome in table.measure("DDP", "float32", lines).items():
        assert outcome.keys() == kept[cell].keys(), outcome
        if "losses" in outcome:
            assert outcome["losses"] == pytest.approx(kept[cell]["losses"], rel=1e-3)
        else:
            assert outcome == kept[cell]


# What is shown of an outcome


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        ({"losses": [2.0, 1.00009]}, "equal"),
        ({"losses": [2.0, 1.02]}, "runs, 2%"),
        (REFUSED, "refused (b)"),
        ({"fails": "RuntimeError: two\nlines"}, "**fails** (b)"),
    ],
)
def test_an_outcome_is_compared_with_one_process(table, outcome, shown):
    assert table.describe(outcome, {"losses": [2.0, 1.0]}, {"Another sentence": "a"}) == shown


def test_without_a_run_in_one_process_there_is_nothing_to_equal(table):
    assert table.describe({"losses": [2.0]}, REFUSED, {}) == "runs"
    assert table.describe({"losses": [2.0]}, {"losses": [2.0]}, {}) == "equal"


def test_one_sentence_has_one_letter(table):
    notes = {}
    assert [table.describe(REFUSED, REFUSED, notes) for _ in range(2)] == ["refused (a)"] * 2
    assert notes == {"Not so": "a"}


# Crashes


def test_lines_after_a_crash_are_launched_again(table, monkeypatch):
    """The first launch comes to one line, the second dies at once, the third trains the rest."""
    answers = [[{"losses": [1.0]}], [], [{"losses": [3.0]}, {"losses": [4.0]}]]
    monkeypatch.setattr(table, "launch", lambda *arguments: answers.pop(0))
    outcomes = table.measure("DDP", "float32", run_cells.LINES[:4])
    assert list(outcomes.values()) == [{"losses": [1.0]}, table.DIED, {"losses": [3.0]}, {"losses": [4.0]}]


def test_the_first_failure_of_the_processes_is_told(table):
    late, early = {"fails": "connection closed", "ended": 2.0}, {"fails": "ValueError: why", "ended": 1.0}
    assert table._joined([late, early], 2) == {"fails": "ValueError: why"}
    assert table._joined([{"losses": [1.0], "ended": 1.0}], 2) is None
    assert table._joined([{"losses": [1.0]}, {"refused": "no"}], 2) == {"fails": "one process refused"}


def test_only_our_own_errors_are_refusals(monkeypatch, tmp_path):
    def broken(*cell):
        int("no number")

    monkeypatch.setattr(run_cells, "make_trainer", broken)
    assert run_cells.outcome()["fails"].startswith("ValueError: invalid literal")


def test_a_failure_is_written_and_sets_the_exit_status(table, monkeypatch, tmp_path):
    for name in ("PAGE", "KEPT"):
        monkeypatch.setattr(table, name, tmp_path / name)
    table.PAGE.write_text("before\n<!-- engines --><!-- end of engines -->\nafter\n")
    monkeypatch.setattr(
        table,
        "measure",
        lambda engine, precision, lines: {
            (precision, engine, *line): {"fails": "RuntimeError: broken"} if engine == "ZeRO-3" else {"losses": [1.0]}
            for line in lines
        },
    )
    assert table.main() == 1
    assert "**fails** (a)" in table.PAGE.read_text()
    assert "- (a) RuntimeError: broken" in table.PAGE.read_text()
    assert {"fails": "RuntimeError: broken"} in [row[-1] for row in json.loads(table.KEPT.read_text())["outcomes"]]
