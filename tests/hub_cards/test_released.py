"""The models that come with the package: light, complete, documented by what was measured, used as their cards say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compalign import modeling
from compalign.data.scenes import COLOURS
from compalign.evaluation import Results
from compalign.hub_cards import read_facts
from compalign.hub_cards.load_back import load_model, load_processor
from compalign.hub_cards.scan import scan_folder
from compalign.hub_cards.verify import check_card, check_files

MODELS = ("base", "cal", "ceclip", "comalign", "degla", "negclip")
MODEL_MEGABYTES, ALL_MEGABYTES = 4, 25

ELSEWHERE = """
import contextlib, io, json, os, re, sys
sys.modules["compalign"] = None  # an import of it fails from here on
found = {}
for folder in sys.argv[1:]:
    os.chdir(folder)
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(re.search("```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1], namespace)
    found[os.path.basename(folder)] = [type(namespace["model"]).__name__, printed.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def released(repository) -> Path:
    """The folder of them all."""
    return repository / "hub_cards" / "released"


@pytest.fixture(params=MODELS)
def model(request) -> str:
    """The name of each, as its facts and its recipe have it."""
    return request.param


@pytest.fixture
def folder(released, model) -> Path:
    """The folder of each."""
    return released / f"scenes_{model}"


def test_every_released_folder_is_tested_here(released):
    assert {path.name for path in released.iterdir()} == {f"scenes_{name}" for name in MODELS}


def test_together_they_are_light(released):
    assert sum(path.stat().st_size for path in released.rglob("*")) <= ALL_MEGABYTES * 1e6


def test_weights_are_small(folder):
    weights = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert 0 < sum(weights) <= MODEL_MEGABYTES * 1e6
    assert sum(path.stat().st_size for path in folder.glob("*.png")) <= 100e3


def test_auto_classes_load_exactly_what_lies_there(folder, model):
    """Every weight has its place and every place its weight; the saved data type is kept."""
    found = load_model(folder)
    assert type(found).__name__ == read_facts(model)["model_class"]
    assert {str(weight.dtype) for weight in found.parameters()} == {f"torch.{found.config.to_dict()['dtype']}"}
    assert load_processor(folder).tokenizer.model_max_length >= 64


def test_code_beside_the_weights_is_the_package_s_own(folder):
    sources = {path.name: path for path in Path(modeling.__file__).parent.glob("*/*.py")}
    code = list(folder.glob("*.py"))
    assert bool(code) == ("auto_map" in json.loads((folder / "config.json").read_text()))
    for path in code:
        assert path.read_bytes() == sources[path.name].read_bytes(), f"stale: {path}; release the model again"


def test_nothing_keeps_it_from_being_published(folder):
    """But ComAlign's encoder, which has no Hub id yet: it lies beside the heads."""
    found = [*check_files(folder), *check_card(folder, "."), *scan_folder(folder, (folder,))]
    assert [finding for finding in found if "name the frozen encoder by its Hub id" not in finding.what] == []
    assert len(found) == (folder.name == "scenes_comalign")


def test_numbers_of_the_card_are_those_of_the_results(folder):
    """Read apart from the code that writes them: from the header to the last digit, from the table to the first."""
    card, results = (folder / "README.md").read_text(encoding="utf-8"), Results.from_json(folder / "results.json")
    header = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    written = {
        (entry["dataset"]["type"], metric["name"]): metric["value"] for entry in header for metric in entry["metrics"]
    }
    measured = {
        (name, title): result.scores[score].value
        for name, result in results.benchmarks.items()
        for score, title in result.columns.items()
    }
    assert written == measured
    assert results.model == folder.name
    (row,) = [line for line in card.splitlines() if line.startswith(f"| {folder.name} ")]
    assert re.findall(r"\d+\.\d", row) == [f"{100 * value:.1f}" for value in measured.values()]


def test_card_shows_a_chart_that_is_there(folder, model):
    pictures = re.findall(r"!\[[^]]+\]\((.+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert pictures == ([] if model == "base" else ["chart.png"])
    assert all((folder / name).is_file() for name in pictures)


def test_fine_tuned_models_stand_beside_the_base_model(released):
    for name in ("ceclip", "comalign", "degla", "negclip"):
        card = (released / f"scenes_{name}" / "README.md").read_text(encoding="utf-8")
        assert f"| ability | benchmark | score | scenes_base | scenes_{name} | change |" in card


def test_usage_snippets_run_offline_without_this_package(released, tmp_path):
    folders = [str(released / f"scenes_{name}") for name in MODELS]
    process = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *folders],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    for name in MODELS:
        model_class, printed = found[f"scenes_{name}"]
        assert model_class == read_facts(name)["model_class"]
        if name == "cal":
            assert printed.strip() in COLOURS
        else:
            true, false = (float(line.split()[0]) for line in printed.splitlines())
            assert true > false
