"""Published rows are looked up as printed, with their errors; a user's results stand beside them where they may."""

import json
import re

import pytest
from PIL import Image

from compalign.evaluation import BENCHMARKS, BenchmarkResult, Results, Score
from compalign.evaluation.benchmarks.zero_shot_sets import ZERO_SHOT_SETS
from compalign.evaluation.beside.papers import (
    PUBLISHED_ITEMS,
    plot_published,
    published_rows,
    published_table,
    why_incomparable,
)

SUGARCREPE = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")


def score(value: float) -> Score:
    return Score(value, 100, (value - 0.01, value + 0.01), 0.5)


def results(name: str = "mine", found: int = 7511, listed: int = 7511, suite: str = "sugarcrepe") -> Results:
    scores = {kind: score(0.7 + k / 100) for k, kind in enumerate(SUGARCREPE)} | {"all_micro": score(0.75)}
    columns = {kind: kind.replace("_", " ") for kind in SUGARCREPE}
    benchmark = BenchmarkResult("SugarCrepe", columns, scores, listed, found, "abc", ability="composition")
    activation = {"text": "quick_gelu", "vision": "quick_gelu"}
    return Results(name, {suite: benchmark}, activation, "float32", {}, {"texts_truncated": 0}, {}, 1.0, "2026")


def cells(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_a_row_is_as_printed_and_knows_where_it_stands():
    (row,) = published_rows("DeGLA", "sugarcrepe")
    assert (row.source, row.table, row.mark) == ("DeGLA", "SugarCrepe", "tab")
    assert row.url == "https://huggingface.co/papers/2504.16801"
    assert row.scores["sugarcrepe/swap_att"] == 82.1
    assert "macro: over files" in row.aggregation
    assert any("QuickGELU" in error for error in row.errors)


def test_rows_are_restricted_to_the_benchmark_and_the_model():
    rows = published_rows("CLIP ViT-B/32", "winoground")
    assert [row.scores for row in rows] == [
        {"winoground/text": 31.25, "winoground/image": 11.25, "winoground/group": 9.0}
    ]
    assert published_rows("no such model") == []


def test_the_rotated_columns_are_marked_and_no_others():
    rows = {row.name: row for row in published_rows(benchmark="sugarcrepe")}
    rotated = {
        name: {key.split("/")[1] for key, errors in row.cell_errors.items() if any("rotated" in e for e in errors)}
        for name, row in rows.items()
    }
    swaps = {"swap_obj", "swap_att", "swap_macro"}
    assert {name: keys for name, keys in rotated.items() if keys} == {
        "CLIP ViT-B/32 (DeGLA)": swaps,
        "NegCLIP (DeGLA)": swaps,
    }


def test_averages_are_the_means_of_their_columns_or_marked():
    """A digit that was mistyped would not average; a column that averages otherwise says so."""
    checked, marked = 0, set()
    for row in published_rows():
        parts = {key.partition("/")[2]: value for key, value in row.scores.items() if key.startswith("sugarcrepe/")}
        means = {
            f"sugarcrepe/{family}_macro": [parts[kind] for kind in SUGARCREPE if kind.startswith(family)]
            for family in ("replace", "swap", "add")
            if f"{family}_macro" in parts
        }
        if "valse/foil-it" in row.scores:  # the column of counting stands for three of the eleven files
            counting = row.scores["valse/counting_macro"]
            files = [value for key, value in row.scores.items() if key != "valse/all_macro"]
            means["valse/all_macro"] = [*files, counting, counting]
        for key, prefix in (
            ("zero_shot/mean", "zero_shot_"),
            ("linear_probe/mean", "linear_probe/"),
            ("aro/mean", "aro_"),
        ):
            if key in row.scores:
                means[key] = [value for name, value in row.scores.items() if name.startswith(prefix) and name != key]
        for key, values in means.items():
            if abs(sum(values) / len(values) - row.scores[key]) > 0.07:
                marked.add((row.name, key))
                assert row.cell_errors.get(key), (row.name, key)
            checked += 1
    assert checked == 56
    assert marked == {
        ("CLIP ViT-B/32 (CE-CLIP)", "sugarcrepe/replace_macro"),
        ("CLIP ViT-B/32 (DeGLA)", "sugarcrepe/replace_macro"),
        ("CLIP ViT-B/32 (DeGLA)", "sugarcrepe/swap_macro"),
        ("NegCLIP (DeGLA)", "sugarcrepe/swap_macro"),
        ("CE-CLIP+ (CE-CLIP)", "valse/all_macro"),
        ("CE-XVLM (CE-CLIP)", "valse/all_macro"),
    }


def test_every_activation_trap_is_marked():
    """Checkpoints of the methods, scored by forks of open_clip; the independent rerun used the right activation."""
    for row in published_rows():
        trapped = row.model in ("NegCLIP", "CE-CLIP", "CE-CLIP+", "DeGLA") and row.source in ("CE-CLIP", "DeGLA")
        if not any(key.startswith("linear_probe") for key in row.scores):
            assert any("QuickGELU" in error for error in row.errors) == (trapped or row.model == "Structure-CLIP")


def test_what_the_independent_rerun_prints_is_what_its_file_says(shared):
    import csv

    with (shared / "data" / "published" / "vl_compo_results.csv").open() as file:
        rows = {row["arch"]: row for row in csv.DictReader(file) if row["pretrained"] in ("openai", "coco-ft")}
    names = {"NegCLIP": "NegCLIP", "CE-CLIP": "CE-CLIP", "CLIP ViT-B/32": "ViT-B-32"}
    columns = {
        "sugarcrepe/replace_swap_add_micro_mean": "sugarcrepe",
        "valse/seven_groups_macro": "valse",
        "zero_shot_imagenet/top1": "imagenet",
        "zero_shot/mean_of_21": "21_tasks_avg",
    }
    compared = 0
    for row in published_rows():
        if row.source == "Oh et al. 2024":
            for key in columns.keys() & row.scores.keys():
                assert row.scores[key] == pytest.approx(float(rows[names[row.model]][columns[key]]), abs=0.051)
                compared += 1
    assert compared == 12


def test_scores_of_our_benchmarks_have_our_names():
    """A name that no benchmark has would never stand beside anything; those that are only looked up are few."""
    own = {*BENCHMARKS, "coco_retrieval", "flickr30k_retrieval"} | {f"zero_shot_{name}" for name in ZERO_SHOT_SETS}
    names = {key.partition("/")[0] for row in published_rows() for key in row.scores}
    looked_up_only = {"aro", "zero_shot", "linear_probe", "cal_vqa", "cal_captions", "cal_general"}
    assert looked_up_only <= names <= own | looked_up_only
    assert PUBLISHED_ITEMS.keys() <= own


def test_results_stand_below_the_rows_with_footnotes():
    text = published_table([results("base"), results("mine")])
    rows = cells(text)
    assert rows["%"][:7] == [kind.replace("_", " ") for kind in SUGARCREPE]
    assert rows["mine"][:7] == ["70.0", "71.0", "72.0", "73.0", "74.0", "75.0", "76.0"]
    assert "all micro" not in rows["%"]
    (name,) = [name for name in rows if name.startswith("DeGLA (DeGLA)")]
    assert rows[name][:3] == ["94.5", "92.6", "84.2"]
    (number,) = re.findall(r"\[(\d)\]", name)
    assert f"- [{number}] probably scored with GELU" in text
    (rotated,) = re.findall(r"62\.7 \[(\d)\]", text)
    assert f"- [{rotated}] the paper has the three Swap columns rotated" in text


def test_a_subset_does_not_stand_beside_the_papers():
    assert why_incomparable(results(found=255, listed=255), "sugarcrepe") == "255 of 7,511 items"
    assert why_incomparable(results(found=7000), "sugarcrepe") == "7,000 of 7,511 items"
    assert why_incomparable(results(found=7200), "sugarcrepe") is None
    assert why_incomparable(results(suite="own"), "own") == "no published row"
    with pytest.raises(
        ValueError, match="no results can be compared with published rows: mine, sugarcrepe: 255 of 7,511 items"
    ):
        published_table([results(found=255, listed=255)])
    mixed = published_table([results("whole"), results("part", found=255, listed=255)])
    assert cells(mixed)["part"] == ["-"] * 7
    assert "part, sugarcrepe: 255 of 7,511 items." in mixed


def test_the_picture_is_a_picture(tmp_path):
    figure = plot_published([results()], tmp_path / "published.png")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["SugarCrepe, beside published rows"]
    with Image.open(tmp_path / "published.png") as image:
        assert image.format == "PNG"
    with pytest.raises(ValueError, match="8 results"):
        plot_published([results(str(k)) for k in range(8)], tmp_path / "published.png")


def test_the_file_has_no_row_of_another_length_and_no_error_without_use(repository):
    content = json.loads((repository / "evaluation" / "beside" / "papers.json").read_text())
    used = set()
    for table in content["tables"]:
        assert {len(row) for row in table["rows"].values()} == {len(table["scores"])}
        cells = table.get("cell_errors", {})
        assert {*table.get("row_errors", {}), *cells} <= table["rows"].keys()
        assert {key for errors in cells.values() for key in errors} <= set(table["scores"])
        used.update(table.get("errors", []), *table.get("row_errors", {}).values())
        used.update(error for errors in cells.values() for names in errors.values() for error in names)
    assert used == content["errors"].keys()
    assert {table["source"] for table in content["tables"]} == content["sources"].keys()
