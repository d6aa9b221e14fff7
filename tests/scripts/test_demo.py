"""The demo and the base model's recipe at their smallest size; the README's table."""

import json

import pytest
from transformers import AutoModel, AutoProcessor

from compalign.hub_cards.verify import check_card
from compalign.scripts import demo
from compalign.scripts.scenes import base, fine_tuning

MARKS = "before\n<!-- demo table -->\nold\n<!-- end of demo table -->\nafter\n"


def test_demo_leaves_models_cards_results_table_and_chart(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKS)
    sizes = ["--max_steps", "2", "--items", "4"]
    results = demo.main(["--output_dir", str(tmp_path), *sizes, "--readme", str(readme)])
    assert [result.model for result in results] == ["base", "negclip", "ceclip", "degla"]
    assert all(len(result.benchmarks) == 3 for result in results)
    for method in fine_tuning.METHODS:
        assert AutoModel.from_pretrained(tmp_path / method).config.projection_dim == 64
        assert AutoProcessor.from_pretrained(tmp_path / method).tokenizer.model_max_length == 64
        assert check_card(tmp_path / method, ".") == []
        assert json.loads((tmp_path / method / "results.json").read_text())["model"] == method
        record = json.loads((tmp_path / method / "run.json").read_text())
        assert record["arguments"]["max_steps"] == 2
        assert json.loads((tmp_path / method / "training_log.json").read_text())[-1]["step"] == 2
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {name} " in table for name in ("base", *fine_tuning.METHODS, "chance"))
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    assert readme.read_text() == MARKS.replace("old", f"\n{table.strip()}\n")


def test_base_recipe_trains_and_documents_a_model(tmp_path, repository):
    recipe = repository / "scripts" / "recipes" / "scenes_base.yaml"
    size = ["--per_device_train_batch_size", "4", "--scenes", "8", "--max_steps", "2", "--logging_steps", "1"]
    base.main(["--config", str(recipe), "--output_dir", str(tmp_path), *size])
    assert AutoModel.from_pretrained(tmp_path).num_parameters() < 1_000_000
    assert len(json.loads((tmp_path / "training_log.json").read_text())) == 3
    assert "`dense`" in (tmp_path / "README.md").read_text()


def test_released_base_model_is_small_and_beats_chance(repository):
    folder = repository / "hub_cards" / "released" / "scenes_base"
    assert (folder / "model.safetensors").stat().st_size <= 4 * 2**20
    scores = json.loads((folder / "results.json").read_text())["benchmarks"]
    assert scores["scenes_zero_shot"]["scores"]["top1"]["value"] >= 0.9


def test_table_goes_between_the_marks_of_the_readme(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(MARKS)
    expected = "before\n<!-- demo table -->\n\n| new |\n\n<!-- end of demo table -->\nafter\n"
    assert demo.with_table(readme, "| new |\n") == expected
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="demo table"):
        demo.with_table(readme, "| new |\n")


def test_a_readme_without_marks_is_refused_before_the_training(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="demo table"):
        demo.main(["--output_dir", str(tmp_path / "demo"), "--readme", str(readme)])
    assert not (tmp_path / "demo").exists()
