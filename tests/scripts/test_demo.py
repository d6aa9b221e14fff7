"""The main job, the base model's recipe and the benchmark at their smallest size; the README's table."""

import json

import pytest
from transformers import AutoModel, AutoProcessor

from compalign.hub_cards.verify import check_card
from compalign.scripts import benchmark, demo, train_scenes_base
from compalign.scripts.update_readme import main as update_readme


def test_demo_leaves_models_cards_results_table_and_chart(tmp_path):
    results = demo.main(["--output_dir", str(tmp_path), "--max_steps", "2", "--items", "4"])
    assert [result.model for result in results] == ["base", "negclip", "ceclip", "degla"]
    assert all(len(result.benchmarks) == 3 for result in results)
    for method in demo.METHODS:
        assert AutoModel.from_pretrained(tmp_path / method).config.projection_dim == 64
        assert AutoProcessor.from_pretrained(tmp_path / method).tokenizer.model_max_length == 64
        assert check_card(tmp_path / method, ".") == []
        assert json.loads((tmp_path / method / "results.json").read_text())["model"] == method
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {name} " in table for name in ("base", *demo.METHODS, "chance"))
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_base_recipe_trains_and_documents_a_model(tmp_path, repository):
    recipe = repository / "scripts" / "recipes" / "scenes_base.yaml"
    size = ["--per_device_train_batch_size", "4", "--scenes", "8", "--max_steps", "2", "--logging_steps", "1"]
    train_scenes_base.main(["--config", str(recipe), "--output_dir", str(tmp_path), *size])
    assert AutoModel.from_pretrained(tmp_path).num_parameters() < 1_000_000
    assert len(json.loads((tmp_path / "training_log.json").read_text())) == 3
    assert "`dense`" in (tmp_path / "README.md").read_text()


def test_released_base_model_is_small_and_beats_chance(repository):
    folder = repository / "hub_cards" / "released" / "scenes_base"
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    scores = json.loads((folder / "results.json").read_text())["benchmarks"]
    assert scores["scenes_zero_shot"]["scores"]["top1"]["value"] >= 0.9


def test_benchmark_measures_every_path(tmp_path):
    figures = benchmark.main(["--tiny", "true", "--batch", "2", "--repeats", "1", "--output_dir", str(tmp_path)])
    assert len(figures) == 7
    assert all(value > 0 for value in figures.values())
    assert json.loads((tmp_path / "benchmark.json").read_text())["figures"].keys() == figures.keys()


def test_table_goes_between_the_marks_of_the_readme(tmp_path):
    readme, table = tmp_path / "README.md", tmp_path / "table.md"
    readme.write_text("before\n<!-- demo table -->\nold\n<!-- end of demo table -->\nafter\n")
    table.write_text("| new |\n")
    update_readme(str(table), str(readme))
    expected = "before\n<!-- demo table -->\n\n| new |\n\n<!-- end of demo table -->\nafter\n"
    assert readme.read_text() == expected
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="demo table"):
        update_readme(str(table), str(readme))
