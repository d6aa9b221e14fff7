"""A released model at its smallest size: trained, saved, evaluated as saved, documented; and documented again."""

import json
import os
import shutil
from pathlib import Path

import pytest
from transformers import AutoModel

from compalign.evaluation import Results
from compalign.hub_cards.verify import check_card
from compalign.scripts import demo, release
from compalign.scripts.benchmark_arguments import SCENES

FEW = {"scenes: 4000": "scenes: 32", "scenes: 16000": "scenes: 8", "size: 128": "size: 16", "size: 64": "size: 8"}


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch, repository, tmp_path):
    """The recipes with a few rows."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for path in (repository / "scripts" / "recipes").glob("*.yaml"):
        text = path.read_text()
        for much, few in FEW.items():
            text = text.replace(much, few)
        (folder / path.name).write_text(text)
    monkeypatch.setattr(demo, "RECIPES", folder)
    monkeypatch.setattr(release, "CAPTIONS_WEIGHED", 2)


def make(model: str, folder: Path, *flags: str) -> dict[str, bytes]:
    """Run the command, and return what lies in its folder."""
    release.main(["--model", model, "--output_dir", str(folder), "--max_steps", "2", "--items", "2", *flags])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_release(folder: Path) -> Results:
    """A folder is complete and its card right; return its results."""
    missing = {"model.safetensors", "results.json", "training_log.json", "README.md", "chart.png"} - set(
        os.listdir(folder)
    )
    assert not missing
    assert check_card(folder, ".") == []
    assert json.loads((folder / "training_log.json").read_text())[-1]["step"] == 2
    results = Results.from_json(folder / "results.json")
    assert results.model == folder.name
    return results


def test_a_dual_encoder_is_released_beside_its_base(tmp_path):
    written = make("negclip", tmp_path / "tuned")
    assert set(check_release(tmp_path / "tuned").benchmarks) == set(SCENES)
    assert b"| ability | benchmark | score | scenes_base | tuned | change |" in written["README.md"]


def test_comalign_finds_its_encoder_by_the_way_from_its_own_folder(tmp_path):
    written = make("comalign", tmp_path / "heads")
    assert any("true regions" in note for note in check_release(tmp_path / "heads").notes)
    assert b"true regions" in written["README.md"]
    model = AutoModel.from_pretrained(tmp_path / "heads")
    assert model.config.backbone.startswith("..")
    assert model.backbone.config.projection_dim == 64


def test_cal_is_saved_and_scored_in_half_precision_and_says_its_weights(tmp_path):
    written = make("cal", tmp_path / "llava")
    results = check_release(tmp_path / "llava")
    assert results.dtype == json.loads(written["config.json"])["dtype"] == "float16"
    baselines = results.benchmarks["scenes_questions"].scores["all_micro"].baselines
    assert set(baselines) == {"most frequent answer", "llava without the image"}
    assert any("mean weight that CAL gives" in note for note in results.notes)
    assert b"mean weight that CAL gives" in written["README.md"]
    again = make("cal", tmp_path / "llava", "--train", "false")
    assert {name for name in written if again[name] != written[name]} == {"results.json"}  # it holds the time


def test_base_goes_to_its_own_command(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(release.train_scenes_base, "main", called.append)
    release.main(["--model", "base", "--output_dir", str(tmp_path), "--seed", "3"])
    (flags,) = called
    assert flags[flags.index("--config") + 1].endswith("scenes_base.yaml")
    assert flags[flags.index("--output_dir") + 1] == str(tmp_path)
    assert flags[flags.index("--seed") + 1] == "3"


def test_base_is_documented_again_without_its_training(tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(demo.BASE, folder, ignore=shutil.ignore_patterns("README.md"))
    written = make("base", folder, "--train", "false")
    assert check_card(folder, ".") == []
    assert b"| `scenes` | 537600 |" in written["README.md"]


def test_a_card_that_fails_its_check_is_an_error(tmp_path, repository):
    results = Results.from_json(repository / "hub_cards" / "released" / "scenes_base" / "results.json")
    demo.document(tmp_path, "base", results, {"seed": 0})
    with pytest.raises(ValueError, match=r"the card is wrong\n  README\.md, line \d+: placeholder"):
        demo.document(tmp_path, "base", results, {"seed": 0}, data="TODO")


def test_an_unknown_model_is_refused_and_none_is_made_unasked(tmp_path):
    with pytest.raises(ValueError, match="clipper"):
        release.main(["--model", "clipper", "--output_dir", str(tmp_path)])
    with pytest.raises(ValueError, match="--model, --output_dir"):
        release.main([])
