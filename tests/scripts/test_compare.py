"""compalign compare: results beside results and papers, and mixes of two models."""

import copy
import json

import pytest
import tiny
import torch
from PIL import Image
from transformers import CLIPModel

from compalign.evaluation import BenchmarkResult, Results, SceneComposition, SceneZeroShot, Score
from compalign.evaluation import requests as benchmark_requests
from compalign.scripts import compare

KINDS = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")


def write(folder, name: str, value: float, content_hash: str = "abc", found: int = 7511) -> str:
    scores = {kind: Score(value, 100, (value - 0.02, value + 0.02), 0.5, 0.0, value) for kind in KINDS}
    scores |= {f"{family}_micro": scores["swap_obj"] for family in ("replace", "swap", "add")}
    columns = {kind: kind.replace("_", " ") for kind in KINDS}
    sugarcrepe = BenchmarkResult("SugarCrepe", columns, scores, 7511, found, content_hash, ability="composition")
    imagenet = BenchmarkResult(
        "Zero-shot classification",
        {"top1": "ImageNet"},
        {"top1": Score(0.6, 100, (0.55, 0.65), 0.001)},
        50000,
        50000,
        "def",
        ability="recognition",
    )
    results = Results(
        name,
        {"sugarcrepe": sugarcrepe, "zero_shot_imagenet": imagenet},
        {"text": "quick_gelu", "vision": "quick_gelu"},
        "float32",
        {},
        {"texts_truncated": 0},
        {},
        1.0,
        "2026",
    )
    path = folder / f"{name}.json"
    results.to_json(path)
    return str(path)


def is_picture(path) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG"


def test_results_stand_beside_one_another_and_the_papers_and_on_the_map(tmp_path, capsys):
    files = [write(tmp_path, "base", 0.7), write(tmp_path, "tuned", 0.8)]
    header = "arch,pretrained,family,sugarcrepe,imagenet,21_tasks_avg,comp_avg"
    published = ["NegCLIP,coco-ft,StructuredCLIP,83,61,56,48", "ViT-B-32,openai,OpenCLIP,73,63,57,41"]
    (tmp_path / "map.csv").write_text("\n".join([header, *published]))
    out = tmp_path / "out"
    arguments = ["--results", *files, "--published", "--map", str(tmp_path / "map.csv")]
    compare.main([*arguments, "--output_dir", str(out)])
    printed = capsys.readouterr().out
    written = (out / "comparison.md").read_text()
    assert written in printed
    assert "### SugarCrepe\n" in written
    assert "### SugarCrepe, beside published rows" in written
    assert "DeGLA (DeGLA) [" in written
    assert is_picture(out / "published.png")
    assert is_picture(out / "map.png")


def test_other_items_are_refused(tmp_path):
    files = [write(tmp_path, "base", 0.7), write(tmp_path, "tuned", 0.8, content_hash="xyz")]
    with pytest.raises(ValueError, match="sugarcrepe was scored on different items"):
        compare.main(["--results", *files, "--output_dir", str(tmp_path / "out")])


def test_few_items_are_no_headline(tmp_path, capsys):
    compare.main(["--results", write(tmp_path, "part", 0.7, found=255), "--output_dir", str(tmp_path / "out")])
    assert "- (255 of 7,511)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["--published"], "--published needs --results"),
        (["--interpolate", "one", "--scenes"], "must be two models"),
        (["--interpolate", "one", "two"], "nothing to evaluate on"),
        (["--models", "one"], "unknown key 'models'"),
    ],
)
def test_what_makes_no_comparison_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare.main([*arguments, "--output_dir", str(tmp_path)])


def test_mixes_are_evaluated_and_drawn(tmp_path, monkeypatch, capsys):
    base = tiny.make_model(CLIPModel)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for name, model in (("base", base), ("tuned", tuned)):
        model.save_pretrained(tmp_path / name)
        tiny.make_processor().save_pretrained(tmp_path / name)
    small = [SceneComposition(4), SceneZeroShot(16)]
    monkeypatch.setattr(benchmark_requests, "requested_benchmarks", lambda benchmarks, scenes: small)
    out = tmp_path / "out"
    models = [str(tmp_path / "base"), str(tmp_path / "tuned")]
    compare.main(["--interpolate", *models, "--scenes", "--alphas", "1", "0", "0.5", "--output_dir", str(out)])
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| alpha")] == [
        "alpha 0",
        "alpha 0.5",
        "alpha 1",
    ]
    assert json.loads((out / "alpha-0.5" / "results.json").read_text())["model"] == "alpha 0.5"
    assert is_picture(out / "interpolation.png")
