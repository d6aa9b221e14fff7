"""Benchmarks are named on the command line with the arguments of their classes."""

import json

import pytest

from compalign.evaluation import SugarCrepe
from compalign.scripts.benchmark_arguments import BenchmarkArguments, make_benchmark, requested


def test_arguments_reach_the_benchmark(shared):
    folder = shared / "data" / "coco_by"
    text = f"sugarcrepe:annotations={folder / 'sugarcrepe'},images={folder / 'images_256'},minimum_coverage=0.5"
    benchmark = make_benchmark(text)
    assert isinstance(benchmark, SugarCrepe)
    assert benchmark.n_found == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sugarcreep:images=x", "no benchmark 'sugarcreep'; must be one of .*sugarcrepe"),
        ("sugarcrepe:images=x", "missing a required argument: 'annotations'"),
        ("sugarcrepe:annotations=x,images=y,pictures=z", "unexpected keyword argument 'pictures'.*minimum_coverage"),
    ],
)
def test_what_cannot_be_built_is_named_with_what_is_accepted(text, message):
    with pytest.raises(ValueError, match=message):
        make_benchmark(text)


def test_scenes_come_first_and_nothing_is_refused():
    names = [benchmark.name for benchmark in requested(BenchmarkArguments(scenes=True))]
    assert names == ["scenes_composition", "scenes_zero_shot", "scenes_retrieval"]
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        requested(BenchmarkArguments())


def test_values_are_read_as_yaml_has_them(tmp_path):
    (tmp_path / "images").mkdir()
    record = {"filename": "a.jpg", "caption": "a", "negative_caption": "b"}
    for kind in ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att"):
        (tmp_path / f"{kind}.json").write_text(json.dumps({"0": record}))
    with pytest.raises(ValueError, match="minimum_coverage"):
        make_benchmark(f"sugarcrepe:annotations={tmp_path},images={tmp_path / 'images'},minimum_coverage=0.9")
