"""A small model at its smallest size: trained, saved, evaluated as saved, documented; and documented again."""

import json
import os
import shutil
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoModel

from compalign.evaluation import Results
from compalign.evaluation.requests import SCENES
from compalign.hub_cards.staging import LEFT_OUT
from compalign.hub_cards.verify import check_card
from compalign.scripts.scenes import choice, main, small_models
from compalign.scripts.scenes.probe import probe
from compalign.scripts.scenes.saved import document

FEW = {"scenes: 2000": "scenes: 32", "scenes: 19200": "scenes: 8", "size: 128": "size: 16", "size: 64": "size: 8"}


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
    monkeypatch.setattr(choice, "RECIPES", folder)
    monkeypatch.setattr(small_models, "CAPTIONS_WEIGHED", 2)


def make(model: str, folder: Path, *flags: str) -> dict[str, bytes]:
    """Run the command, and return what lies in its folder."""
    main(["model", "--model", model, "--output_dir", str(folder), "--max_steps", "2", "--items", "2", *flags])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_folder(folder: Path) -> Results:
    """A folder is complete and its card right; return its results."""
    missing = {"model.safetensors", "results.json", "training_log.json", "README.md", "chart.png"} - set(
        os.listdir(folder)
    )
    assert not missing
    assert not [path.name for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in LEFT_OUT)]
    assert check_card(folder, ".") == []
    assert json.loads((folder / "training_log.json").read_text())[-1]["step"] == 2
    results = Results.from_json(folder / "results.json")
    assert results.model == folder.name
    return results


def test_a_dual_encoder_is_documented_beside_its_base(tmp_path):
    written = make("negclip", tmp_path / "tuned")
    assert set(check_folder(tmp_path / "tuned").benchmarks) == set(SCENES)
    assert b"| ability | benchmark | score | scenes_base | tuned | change |" in written["README.md"]


def test_comalign_finds_its_encoder_by_the_way_from_its_own_folder(tmp_path):
    written = make("comalign", tmp_path / "heads")
    assert any("true regions" in note for note in check_folder(tmp_path / "heads").notes)
    assert b"true regions" in written["README.md"]
    model = AutoModel.from_pretrained(tmp_path / "heads")
    assert model.config.backbone.startswith("..")
    assert model.backbone.config.projection_dim == 128


def test_cal_is_saved_and_scored_in_half_precision_and_says_its_weights(tmp_path):
    written = make("cal", tmp_path / "llava")
    results = check_folder(tmp_path / "llava")
    assert results.dtype == json.loads(written["config.json"])["dtype"] == "float16"
    baselines = results.benchmarks["scenes_questions"].scores["all_micro"].baselines
    assert set(baselines) == {"most frequent answer", "llava without the image"}
    assert any("mean weight of each kind of word" in note for note in results.notes)
    assert b"mean weight of each kind of word" in written["README.md"]
    again = make("cal", tmp_path / "llava", "--no_train")
    assert {name for name in written if again[name] != written[name]} == {"results.json"}  # it holds the time


def test_base_is_trained_by_its_own_recipe_and_documented_in_its_folder(monkeypatch, tmp_path):
    trained, documented = [], []

    def train(shape, args):
        trained.append((shape, args, args.output_dir))
        Path(args.output_dir).mkdir()
        for name in ("model.safetensors", "training_args.bin", "run.json"):
            Path(args.output_dir, name).touch()

    monkeypatch.setattr(small_models.base, "train", train)
    monkeypatch.setattr(small_models.base, "evaluate_and_document", lambda *given: documented.append(given))
    main(["model", "--model", "base", "--output_dir", str(tmp_path / "base"), "--seed", "3"])
    ((shape, args, folder),) = trained
    assert (shape.vision_steps, args.seed, args.num_negatives) == (4500, 3, 0)
    assert os.listdir(tmp_path / "base") == ["model.safetensors"]
    assert not os.path.exists(folder)
    assert [given[0] for given in documented] == [tmp_path / "base"]


def test_base_is_documented_again_without_its_training(tmp_path, monkeypatch):
    monkeypatch.setattr(small_models.base, "probe", partial(probe, train=300, test=60))
    folder = tmp_path / "base"
    shutil.copytree(choice.BASE, folder, ignore=shutil.ignore_patterns("README.md"))
    written = make("base", folder, "--train", "false")
    assert check_card(folder, ".") == []
    assert b"| `vision_steps` | 4500 |" in written["README.md"]


def test_a_card_that_fails_its_check_is_an_error(tmp_path, repository):
    results = Results.from_json(repository / "hub_cards" / "released" / "scenes_base" / "results.json")
    document(tmp_path, "base", results, {"seed": 0})
    with pytest.raises(ValueError, match=r"the card is wrong\n  README\.md, line \d+: placeholder"):
        document(tmp_path, "base", results, {"seed": 0}, data="TODO")


def test_an_unknown_model_is_refused_and_none_is_made_unasked(tmp_path):
    with pytest.raises(ValueError, match="clipper"):
        small_models.main(["--model", "clipper", "--output_dir", str(tmp_path)])
    with pytest.raises(ValueError, match="--model, --output_dir"):
        small_models.main([])
