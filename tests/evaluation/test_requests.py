"""Benchmarks are requested by name, with the arguments of their classes."""

import json
from functools import partial

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from loopback_hub import TOKEN, reachable_hub

from compalign.evaluation import SugarCrepe
from compalign.evaluation import requests as benchmark_requests
from compalign.evaluation.requests import fetch_from_hub, make_benchmark, requested_benchmarks


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
    names = [benchmark.name for benchmark in requested_benchmarks([], scenes=True)]
    assert names == ["scenes_composition", "scenes_zero_shot", "scenes_retrieval"]
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        requested_benchmarks([])


def test_values_are_read_as_yaml_has_them(tmp_path):
    (tmp_path / "images").mkdir()
    record = {"filename": "a.jpg", "caption": "a", "negative_caption": "b"}
    for kind in ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att"):
        (tmp_path / f"{kind}.json").write_text(json.dumps({"0": record}))
    with pytest.raises(ValueError, match="minimum_coverage"):
        make_benchmark(f"sugarcrepe:annotations={tmp_path},images={tmp_path / 'images'},minimum_coverage=0.9")


def test_files_are_brought_from_the_hub(shared, tmp_path, monkeypatch):
    folder = shared / "data" / "coco_by"
    with reachable_hub(monkeypatch) as hub:
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        api.create_repo("someone/benchmark", repo_type="dataset")
        api.upload_folder(
            repo_id="someone/benchmark", repo_type="dataset", folder_path=folder / "sugarcrepe", path_in_repo="data"
        )
        local = partial(snapshot_download, endpoint=hub.endpoint, token=TOKEN, cache_dir=tmp_path)
        monkeypatch.setattr(benchmark_requests, "snapshot_download", local)
        text = f"sugarcrepe:annotations=hf://datasets/someone/benchmark@main/data,images={folder / 'images_256'}"
        assert make_benchmark(text).n_found == 255
        assert fetch_from_hub(0.5) == 0.5
        with pytest.raises(RepositoryNotFoundError):
            fetch_from_hub("hf://datasets/someone/else")
