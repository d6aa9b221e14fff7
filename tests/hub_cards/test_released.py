"""The models that come with the package: light, complete, documented by what was measured, used as their cards say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from compalign.data.scenes import COLOURS
from compalign.evaluation import Results
from compalign.hub_cards import read_facts
from compalign.hub_cards.load_back import load_model, load_processor
from compalign.hub_cards.scan import scan_folder
from compalign.hub_cards.staging import MODELING, stage
from compalign.hub_cards.verify import check_card, check_files
from compalign.modeling import load_model as load_model_of_any_kind

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


def test_it_holds_data_and_no_code(folder):
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".md", ".png", ".safetensors"}


def test_without_code_or_trust_the_classes_are_the_package_s_own(folder, model):
    multimodal = model == "cal"
    loaded = (AutoModelForImageTextToText if multimodal else AutoModel).from_pretrained(folder)
    library = "transformers" if model in ("base", "negclip") else "compalign.modeling"
    assert type(loaded).__module__.startswith(f"{library}.")
    assert type(load_model_of_any_kind(folder)) is type(loaded)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor).__module__.startswith("compalign." if model == "comalign" else "transformers.")


def test_staging_adds_the_code_that_the_configuration_names(folder, tmp_path):
    stage(folder, tmp_path / "staged")
    sources = {path.name: path for path in MODELING.glob("*/*.py") if path.name != "__init__.py"}
    code = {path.name: path.read_bytes() for path in (tmp_path / "staged").glob("*.py")}
    named = json.loads((folder / "config.json").read_text()).get("auto_map", {}).values()
    assert {f"{name.split('.')[0]}.py" for name in named} <= set(code)
    assert bool(code) == bool(named)
    assert code == {name: sources[name].read_bytes() for name in code}


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


def test_card_shows_a_chart_that_is_there(folder):
    pictures = re.findall(r"!\[[^]]+\]\((.+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert pictures == ["chart.png"]
    assert all((folder / name).is_file() for name in pictures)


def test_fine_tuned_models_stand_beside_the_base_model(released):
    for name in ("ceclip", "comalign", "degla", "negclip"):
        card = (released / f"scenes_{name}" / "README.md").read_text(encoding="utf-8")
        assert f"| ability | benchmark | score | scenes_base | scenes_{name} | change |" in card


def test_staged_usage_snippets_run_offline_without_this_package(released, tmp_path):
    folders = [tmp_path / f"scenes_{name}" for name in MODELS]
    for folder in folders:
        stage(released / folder.name, folder)
    process = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, folders)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
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
