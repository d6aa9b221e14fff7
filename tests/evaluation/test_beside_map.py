"""The map reads what its authors wrote, averages as they do, and labels without covering."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from compalign.evaluation import BenchmarkResult, Results, Score
from compalign.evaluation.beside.map import place, place_labels, plot_map, read_map, shared_columns

HEADER = "arch,pretrained,family,sugarcrepe,imagenet,21_tasks_avg,comp_avg"
ROWS = (
    "NegCLIP,coco-ft,StructuredCLIP,83.7,60.9,55.9,47.9",
    "ViT-B-32,openai,OpenCLIP,73.0,63.3,57.1,41.2",
    "B,x,Scaling,70,50,40,35",
)


def write(folder, *lines: str):
    path = folder / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def results(name: str = "mine", found: int = 7511, **scores: float) -> Results:
    averages = {"replace_micro": 0.8, "swap_micro": 0.6, "add_micro": 0.7} | scores
    benchmarks = {
        "sugarcrepe": BenchmarkResult(
            "SugarCrepe",
            {},
            {k: Score(v, 9, (v, v), 0.5) for k, v in averages.items()},
            7511,
            found,
            "a",
            ability="composition",
        ),
        "zero_shot_imagenet": BenchmarkResult(
            "Zero-shot", {}, {"top1": Score(0.62, 9, (0.6, 0.7), 0.001)}, 9, 9, "b", ability="recognition"
        ),
    }
    benchmarks["sugarcrepe"].scores["replace_obj"] = Score(0.9, 9, (0.9, 0.9), 0.5)
    return Results(name, benchmarks, {}, "float32", {}, {}, {}, 1.0, "2026")


def test_axes_are_the_means_of_the_columns(tmp_path):
    path = write(tmp_path, HEADER, *ROWS)
    assert read_map(path)[1] == ("ViT-B-32", "openai", "OpenCLIP", 41.2, 57.1)
    assert read_map(path, ["sugarcrepe", "comp_avg"], ["imagenet"])[2][3:] == (52.5, 50.0)


def test_a_users_model_is_averaged_as_the_authors_do():
    assert place(results(), ["sugarcrepe"]) == pytest.approx(70.0)
    assert place(results(), ["sugarcrepe", "imagenet"]) == pytest.approx(66.0)


def test_the_averages_are_those_of_the_published_files(shared):
    """The two files hold the same models: sub-tasks in one, averages in the other; the first as a user's results."""
    folder = shared / "data" / "published"
    with (folder / "vl_compo_individual_results.csv").open() as file:
        parts = {(row["arch"], row["pretrained"]): row for row in csv.DictReader(file)}
    sizes = {"replace_obj": 1652, "replace_att": 788, "replace_rel": 1406}
    sizes |= {"swap_obj": 246, "swap_att": 666, "add_obj": 2062, "add_att": 692}
    for model in read_map(folder / "vl_compo_results.csv", ["sugarcrepe"], ["imagenet"])[:20]:
        row = parts[model.arch, model.pretrained]
        micro = {}
        for family in ("replace", "swap", "add"):
            kinds = [kind for kind in sizes if kind.startswith(family)]
            hits = sum(sizes[kind] * float(row[f"sugarcrepe::{kind}"]) / 100 for kind in kinds)
            micro[f"{family}_micro"] = hits / sum(sizes[kind] for kind in kinds)
        assert place(results(**micro), ["sugarcrepe"]) == pytest.approx(model.composition, abs=0.05)


def test_valse_is_the_mean_of_seven_groups(shared):
    folder = shared / "data" / "published"
    with (folder / "vl_compo_individual_results.csv").open() as file:
        parts = {(row["arch"], row["pretrained"]): row for row in csv.DictReader(file)}
    for model in read_map(folder / "vl_compo_results.csv", ["valse"], ["imagenet"])[:20]:
        row = {key.split("::")[1]: float(value) / 100 for key, value in parts[model[:2]].items() if "valse" in key}
        row["counting_macro"] = np.mean([value for key, value in row.items() if key.startswith("counting")])
        row["coreference_macro"] = np.mean([value for key, value in row.items() if key.startswith("coref")])
        own = results()
        own.benchmarks["valse"] = BenchmarkResult(
            "VALSE",
            {},
            {key: Score(value, 9, (value, value), 0.5) for key, value in row.items()},
            7702,
            7702,
            "v",
            ability="composition",
        )
        assert place(own, ["valse"]) == pytest.approx(model.composition, abs=1e-6)


def test_only_columns_of_all_models_are_shared_and_only_complete_ones():
    assert shared_columns([results("a"), results("b")]) == (["sugarcrepe"], ["imagenet"])
    with pytest.raises(ValueError, match="part cannot be placed by composition; needs complete results of sugarcrepe"):
        shared_columns([results("part", found=255)])
    blind = results("blind")
    del blind.benchmarks["zero_shot_imagenet"]
    with pytest.raises(ValueError, match="by recognition; needs complete results of imagenet: zero_shot_imagenet/top1"):
        shared_columns([blind])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER.replace("comp_avg", "mean"), *ROWS], "no column comp_avg; it has arch"),
        ([HEADER, ROWS[0], ROWS[1].replace("41.2", "n/a")], "line 3, comp_avg: 'n/a'"),
        ([HEADER, ROWS[1].replace("41.2", "412")], "line 2, comp_avg: '412'; must be in 0..100"),
        ([HEADER], "no model"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_map(write(tmp_path, *lines))


def overlapping(centres, sizes) -> int:
    return sum(
        all(2 * abs(a - b) < first + second for a, b, first, second in zip(p, q, s, t, strict=True))
        for (p, s), (q, t) in itertools.combinations(zip(centres, sizes, strict=True), 2)
    )


def test_labels_of_crowded_points_do_not_overlap_and_stay_inside():
    rng = np.random.default_rng(0)
    points = rng.normal((500, 400), 25, (12, 2))
    sizes = [(rng.integers(40, 140), 14) for _ in points]
    legend = (600, 300, 1000, 500)
    centres = place_labels(points, sizes, points, (0, 0, 1000, 800), [legend])
    assert overlapping(points, sizes) > 10
    assert overlapping(centres, sizes) == 0
    for (x, y), (width, height) in zip(centres, sizes, strict=True):
        assert x - width / 2 >= 0
        assert x + width / 2 <= 600 or not 300 - height / 2 < y < 500 + height / 2


def test_a_label_prefers_the_place_without_dots():
    beside = place_labels([(100, 100)], [(40, 10)], [], (0, 0, 200, 200))[0]
    dots = [(x, y) for x in range(101, 200, 4) for y in range(0, 200, 4)]
    away = place_labels([(100, 100)], [(40, 10)], dots, (0, 0, 200, 200))[0]
    assert beside[0] > 100 > away[0]


@pytest.mark.parametrize("own", [[], [results("base"), results("mine", swap_micro=0.7)]])
def test_the_map_is_a_picture(tmp_path, own):
    plot_map(write(tmp_path, HEADER, *ROWS), tmp_path / "map.png", own)
    with Image.open(tmp_path / "map.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_the_map_is_returned_without_being_written(tmp_path):
    figure = plot_map(write(tmp_path, HEADER, *ROWS))
    assert figure.axes[0].get_legend().get_title().get_text() == "Oh et al. 2024, arXiv 2406.09388"
    assert [path.suffix for path in tmp_path.iterdir()] == [".csv"]
