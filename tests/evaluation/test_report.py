"""Tables and figures show every model beside the same baselines, and refuse to compare what differs."""

import numpy as np
import pytest
from PIL import Image

from compalign.data.scenes import NEGATIVE_KINDS
from compalign.evaluation import BenchmarkResult, Results, Score, plot_results, table
from compalign.evaluation.columns import first_benchmark


def score(value: float, chance: float = 0.5, blind: float | None = None) -> Score:
    baselines = (
        {} if blind is None else {"shorter text": {"strict": 0.1, "half_credit": blind, "tie_rate": 0.2, "n": 300}}
    )
    interval = (max(0.0, value - 0.056), min(1.0, value + 0.04))
    return Score(value, 300, interval, chance, tie_rate=None if blind is None else 0.004, baselines=baselines)


def results(name: str, accuracy: float = 0.6, content_hash: str = "abc", retention: bool = True) -> Results:
    kinds = {kind: score(accuracy + k / 100, blind=0.5) for k, kind in enumerate(NEGATIVE_KINDS)}
    composition = BenchmarkResult(
        "Generated scenes",
        {kind: kind.replace("_", " ") for kind in NEGATIVE_KINDS} | {"all_macro": "composition mean"},
        kinds | {"all_macro": score(accuracy + 0.03, blind=0.5), "not_shown": score(0.9)},
        2100,
        2100,
        content_hash,
        ability="composition",
    )
    zero_shot = BenchmarkResult(
        "Generated scenes",
        {"top1": "zero-shot"},
        {"top1": score(0.825, 1 / 64)},
        512,
        512,
        "def",
        ability="recognition",
    )
    benchmarks = {"scenes_composition": composition} | ({"scenes_zero_shot": zero_shot} if retention else {})
    activation = {"text": "quick_gelu", "vision": "quick_gelu"}
    return Results(
        name, benchmarks, activation, "float32", {}, {"texts_truncated": 3}, {}, 1.0, "2026-01-01T00:00:00+00:00"
    )


def cells(text: str) -> dict[str, list[str]]:
    """The rows of a Markdown table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_table_has_models_blind_baselines_and_chance_as_rows():
    rows = cells(table([results("base", 0.6), results("tuned", 0.7)]))
    assert rows["%"] == [kind.replace("_", " ") for kind in NEGATIVE_KINDS] + ["composition mean", "zero-shot"]
    assert rows["base"] == ["60.0", "61.0", "62.0", "63.0", "64.0", "65.0", "66.0", "63.0", "82.5"]
    assert rows["tuned"][:2] == ["70.0", "71.0"]
    assert rows["blind: shorter text"] == ["50.0"] * 8 + ["-"]
    assert rows["chance"] == ["50.0"] * 8 + ["1.6"]


def test_table_lines_up_in_a_terminal():
    lines = [line for line in table([results("a"), results("a longer name")]).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(k for k, character in enumerate(line) if character == "|") for line in lines}) == 1


def test_table_says_what_is_needed_to_read_it():
    text = table([results("base")])
    assert "intervals reach at most 5.6 points" in text
    assert "Ties are misses for models (at most 0.40 % of items)" in text
    assert "base: activation quick_gelu, float32, 3 texts truncated." in text


def test_a_score_that_a_model_lacks_is_a_dash():
    rows = cells(table([results("base"), results("other", retention=False)]))
    assert (rows["base"][-1], rows["other"][-1]) == ("82.5", "-")


def test_a_score_of_zero_is_a_number():
    assert cells(table([results("base", 0.0)]))["base"][0] == "0.0"


def test_suites_have_their_own_tables():
    other = results("base")
    other.benchmarks["sugarcrepe"] = BenchmarkResult(
        "SugarCrepe",
        {"swap_att": "swap att"},
        {"swap_att": score(0.64, blind=0.492)},
        255,
        255,
        "ghi",
        ["a subset"],
        ability="composition",
    )
    scenes, sugarcrepe = table([other]).split("### SugarCrepe")
    assert "swap att " not in scenes
    assert cells(sugarcrepe) == {
        "%": ["swap att"],
        ":------------------": ["-------:"],
        "base": ["64.0"],
        "blind: shorter text": ["49.2"],
        "chance": ["50.0"],
    }
    assert "base, sugarcrepe: a subset." in sugarcrepe


def test_too_few_items_are_no_headline():
    """95 of 100 are enough, 94 are not; what is refused says how many."""
    rows = {}
    for found in (94, 95):
        part = results("part")
        part.benchmarks["scenes_zero_shot"].n_listed, part.benchmarks["scenes_zero_shot"].n_found = 100, found
        rows[found] = cells(table([part, results("whole")]))
    assert rows[95]["part"][-1] == rows[95]["whole"][-1] == rows[94]["whole"][-1] == "82.5"
    assert rows[94]["part"][-1] == "- (94 of 100)"
    assert rows[94]["chance"][-1] == "1.6"


def test_a_column_without_any_headline_has_no_baselines_either(tmp_path):
    part = results("part")
    for benchmark in part.benchmarks.values():
        benchmark.n_listed, benchmark.n_found = 2100, 100
    rows = cells(table([part]))
    assert set(rows["part"]) == {"- (100 of 2,100)"}
    assert set(rows["chance"]) == {"-"}
    assert "blind: shorter text" not in rows
    with pytest.raises(ValueError, match="no result has the benchmark scenes_composition on enough of its items"):
        plot_results([part], tmp_path / "figure.png")


def test_notes_on_the_model_stand_below_the_table():
    warned = results("warned")
    warned.notes.append("gelu in the text tower")
    assert "- warned: gelu in the text tower." in table([warned])


@pytest.mark.parametrize("report", [table, lambda models: plot_results(models, "never-written.png")])
@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "at least one"),
        ([results("base"), results("base")], "different names"),
        ([results("base"), results("other", content_hash="xyz")], "different items"),
    ],
)
def test_what_cannot_be_compared_is_refused(report, models, message):
    with pytest.raises(ValueError, match=message):
        report(models)


@pytest.mark.parametrize("retention", [True, False])
def test_the_figure_is_a_picture_with_something_on_it(tmp_path, retention):
    path = tmp_path / "figure.png"
    other = results("without composition")
    del other.benchmarks["scenes_composition"]
    plot_results([results("base", 0.55, retention=retention), *([other] if retention else [])], path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 10


def test_the_figure_leaves_the_global_state_of_matplotlib_alone(tmp_path):
    from matplotlib import pyplot

    plot_results([results("base")], tmp_path / "figure.png")
    assert pyplot.get_fignums() == []


def test_the_figure_refuses_more_models_than_colours_and_an_absent_benchmark(tmp_path):
    with pytest.raises(ValueError, match="8 results"):
        plot_results([results(str(k)) for k in range(8)], tmp_path / "figure.png")
    with pytest.raises(ValueError, match="sugarcrepe"):
        plot_results([results("base")], tmp_path / "figure.png", composition="sugarcrepe")


def test_the_figure_is_returned_and_chooses_benchmarks_by_ability():
    own = results("base")
    own.benchmarks["sugarcrepe"] = BenchmarkResult(
        "SugarCrepe",
        {"swap_att": "swap att"},
        {"swap_att": score(0.64, blind=0.492)},
        255,
        255,
        "g",
        ability="composition",
    )
    own.benchmarks = {"retrieval": own.benchmarks["scenes_zero_shot"], **own.benchmarks}
    own.benchmarks["retrieval"].columns = {"top1": "I2T R@1"}
    assert first_benchmark([own], "composition") == "scenes_composition"
    assert first_benchmark([own], "recognition") == "retrieval"
    bars, scatter = plot_results([own]).axes
    assert [label.get_text().replace("\n", " ") for label in bars.get_xticklabels()][-1] == "composition mean"
    assert scatter.get_xlabel() == "recognition: I2T R@1, %"
    (only,) = plot_results([own], composition="sugarcrepe", retention="absent").axes
    assert [label.get_text() for label in only.get_xticklabels()] == ["swap\natt"]


def test_columns_without_a_baseline_are_drawn_without_its_mark():
    own = results("base", retention=False)
    scores = {"a": score(0.5, blind=0.4), "a_pair": score(0.3), "b": score(0.5, blind=0.45)}
    scores["b"].baselines = {"word overlap": scores["b"].baselines["shorter text"]}
    columns = {"a": "A", "a_pair": "A pair", "b": "B"}
    own.benchmarks = {"pairs": BenchmarkResult("Pairs", columns, scores, 9, 9, "p", ability="composition")}
    (axes,) = plot_results([own]).axes
    shorter, overlap = axes.collections[-2:]
    assert shorter.get_offsets()[:, 1].tolist() == [40.0]
    assert overlap.get_offsets()[:, 1].tolist() == [45.0]


def test_a_result_without_composition_has_no_figure():
    own = results("base")
    del own.benchmarks["scenes_composition"]
    assert first_benchmark([own], "composition") is None
    with pytest.raises(ValueError, match="no result has a composition benchmark"):
        plot_results([own])


def test_ties_are_noted_only_where_there_can_be_ties():
    own = results("base")
    del own.benchmarks["scenes_composition"]
    assert "Ties" not in table([own])
