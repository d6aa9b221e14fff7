"""The demo and the base model's recipe at their smallest size; the README's table."""

import json
from functools import partial

import pytest
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from compalign.evaluation import Results
from compalign.hub_cards.verify import check_card
from compalign.scripts import demo
from compalign.scripts.scenes import base
from compalign.scripts.scenes.fine_tuning import METHODS
from compalign.scripts.scenes.probe import probe
from compalign.trainers import NegCLIPArguments
from compalign.trainers.launch.recipe import parse_recipe

MODELS = [*METHODS, "comalign"]
MARKS = (
    "before\n<!-- demo summary -->\n\nfew\n\n<!-- end of demo summary -->\nbetween\n"
    "<!-- demo table -->\n\nold\n\n<!-- end of demo table -->\nafter\n"
)


def test_demo_leaves_models_cards_results_table_chart_and_page(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKS)
    sizes = ["--max_steps", "2", "--items", "4"]
    results = demo.main(["--output_dir", str(tmp_path), *sizes, "--readme", str(readme)])
    assert [result.model for result in results] == ["base", *MODELS]
    assert all(len(result.benchmarks) == 3 for result in results)
    assert AutoModel.from_pretrained(tmp_path / "degla").config.projection_dim == 128
    for method in MODELS:
        assert AutoProcessor.from_pretrained(tmp_path / method).tokenizer.model_max_length == 64
        assert check_card(tmp_path / method, ".") == []
        assert json.loads((tmp_path / method / "results.json").read_text())["model"] == method
        record = json.loads((tmp_path / method / "run.json").read_text())
        assert record["arguments"]["max_steps"] == 2
        assert json.loads((tmp_path / method / "training_log.json").read_text())[-1]["step"] == 2
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {name} " in table for name in ("base", *MODELS, "chance"))
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    assert "data:image/png" in (tmp_path / "index.html").read_text()
    assert readme.read_text() == MARKS.replace("old", table.strip()).replace("few", demo.summary(results))
    assert (tmp_path / "docs" / "images" / "demo.png").read_bytes() == (tmp_path / "chart.png").read_bytes()


def test_base_recipe_trains_and_documents_a_model(tmp_path, repository, monkeypatch):
    monkeypatch.setattr(base, "probe", partial(probe, train=300, test=60))
    recipe = repository / "scripts" / "recipes" / "scenes_base.yaml"
    size = ["--per_device_train_batch_size", "4", "--vision_steps", "2", "--max_steps", "2", "--logging_steps", "1"]
    base.main(["--config", str(recipe), "--output_dir", str(tmp_path), *size])
    assert AutoModel.from_pretrained(tmp_path).num_parameters() < 1_000_000
    assert len(json.loads((tmp_path / "training_log.json").read_text())) == 3
    assert len(json.loads((tmp_path / "vision_training_log.json").read_text())) == 3
    card = (tmp_path / "README.md").read_text()
    assert "`vision_steps`" in card
    assert "linear probes of the image embedding" in card


def test_a_base_model_is_not_trained_twice_in_one_folder(tmp_path, repository, monkeypatch):
    recipe = repository / "scripts" / "recipes" / "scenes_base.yaml"
    size = ["--per_device_train_batch_size", "4", "--vision_steps", "2", "--max_steps", "2"]
    flags = ["--config", str(recipe), "--output_dir", str(tmp_path), *size]
    shape, args = parse_recipe(base.BaseModelArguments, NegCLIPArguments, arguments=flags)
    base.train(shape, args)
    first = load_file(tmp_path / "model.safetensors")
    monkeypatch.setattr(base, "VisionTrainer", None)  # stage one is read, not trained
    base.train(shape, args)
    assert all(value.equal(first[name]) for name, value in load_file(tmp_path / "model.safetensors").items())


def test_released_base_model_is_small_and_beats_chance(repository):
    folder = repository / "hub_cards" / "released" / "scenes_base"
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    scores = json.loads((folder / "results.json").read_text())["benchmarks"]
    assert scores["scenes_zero_shot"]["scores"]["top1"]["value"] >= 0.9


def test_tables_go_between_the_marks_of_the_readme(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKS)
    tables = {"demo summary": "| 1 |\n", "demo table": "| a\\1 |\n"}
    assert demo.with_tables(readme, tables) == MARKS.replace("few", "| 1 |").replace("old", "| a\\1 |")
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="demo summary"):
        demo.with_tables(readme, tables)


def test_the_summary_says_the_change_from_the_first_model(repository):
    base = Results.from_json(repository / "hub_cards" / "released" / "scenes_base" / "results.json")
    tuned = Results.from_json(repository / "hub_cards" / "released" / "scenes_degla" / "results.json")
    lines = demo.summary([base, tuned]).splitlines()
    change = 100 * (
        tuned.benchmarks["scenes_zero_shot"].scores["top1"].value
        - base.benchmarks["scenes_zero_shot"].scores["top1"].value
    )
    assert lines[-1].strip("| ").endswith(f"({change:+.1f})")
    assert "(" not in lines[-2]


def test_a_readme_without_marks_is_refused_before_the_training(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="demo summary"):
        demo.main(["--output_dir", str(tmp_path / "demo"), "--readme", str(readme)])
    assert not (tmp_path / "demo").exists()
