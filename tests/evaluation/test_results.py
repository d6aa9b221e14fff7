"""A results.json is read only if every value is what it should be, and says where it comes from."""

import copy
import json
import subprocess
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig

from compalign.data.provenance import git_commit
from compalign.evaluation import BenchmarkResult, Results, Score, provenance
from compalign.evaluation.provenance import activation_warning, hardware


def results() -> Results:
    score = Score(0.5, 10, (0.4, 0.6), 0.25, 0.0, 0.5, {"shorter text": {"strict": 0.5, "n": 10}})
    benchmark = BenchmarkResult(
        "Suite", {"top1": "top-1"}, {"top1": score}, 10, 10, "abc", ["a note"], ability="recognition"
    )
    return Results(
        "mine",
        {"own": benchmark},
        {"text": "gelu"},
        "float32",
        {"text": {"max_length": 77}},
        {"texts_truncated": 0},
        {"torch": "2"},
        1.5,
        "2026",
        {"images": 1.0},
        "f" * 40,
        None,
        {"device": "cpu", "threads": 2},
        ["another note"],
    )


def test_all_fields_survive_the_round_trip(tmp_path):
    results().to_json(tmp_path / "results.json")
    assert Results.from_json(tmp_path / "results.json") == results()


def test_the_released_results_are_read(repository):
    released = Results.from_json(repository / "hub_cards" / "released" / "scenes_base" / "results.json")
    assert released.find("scenes_zero_shot/top1").n == 640


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["seconds"], "fast", r"results.json: Field 'seconds' expected float, got str \(value: 'fast'\)"),
        (["seconds"], True, r"'seconds' expected float, got bool"),
        (["seconds"], float("nan"), r"'seconds' expected float, got str \(value: 'NaN'\)"),
        (["benchmarks"], [], r"'benchmarks' expected a dict, got list"),
        (
            ["benchmarks", "own", "n_found"],
            9.5,
            r"benchmarks: own: Field 'n_found' expected int, got float \(value: 9.5\)",
        ),
        (
            ["benchmarks", "own", "ability"],
            "sight",
            r"own: Field 'ability' expected one of .*'recognition'\), got sight",
        ),
        (["benchmarks", "own", "scores"], {"top1": 0.5}, r"own: scores: top1: 0.5; must be an object"),
        (["benchmarks", "own", "scores", "top1", "value"], 50.0, r"own/top1: 50.0; must be in \[0, 1\]"),
        (
            ["benchmarks", "own", "scores", "top1", "value"],
            float("nan"),
            r"top1: Field 'value' .* got str \(value: 'NaN'\)",
        ),
        (
            ["benchmarks", "own", "scores", "top1", "interval"],
            [0.4, "x"],
            r"top1: Field 'interval\[1\]' expected float",
        ),
        (
            ["benchmarks", "own", "scores", "top1", "interval"],
            [0.1],
            r"top1: Field 'interval' expected a tuple of length 2, got 1",
        ),
        (
            ["benchmarks", "own", "scores", "top1", "tie_rate"],
            "no",
            r"top1: Field 'tie_rate' with value 'no' doesn't match",
        ),
        (["notes"], [3], r"Field 'notes\[0\]' expected str, got int \(value: 3\)"),
        (["sekonds"], 1, r"unexpected keyword argument 'sekonds'; accepted: model, .*seconds"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, place, value, message):
    path = tmp_path / "results.json"
    results().to_json(path)
    content = json.loads(path.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Results.from_json(path)


def test_a_missing_field_is_named(tmp_path):
    path = tmp_path / "results.json"
    results().to_json(path)
    content = json.loads(path.read_text())
    del content["benchmarks"]["own"]["content_hash"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"own: .* missing 1 required .* argument: 'content_hash'"):
        Results.from_json(path)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "schema_version None")])
def test_what_is_no_results_file_is_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Results.from_json(tmp_path / "results.json")


def test_find_names_what_there_is():
    assert results().find("own/top1").value == 0.5
    with pytest.raises(ValueError, match="no score 'own/top5'; there are top1"):
        results().find("own/top5")
    with pytest.raises(ValueError, match="no score 'other/top1'; there are own"):
        results().find("other/top1")


def test_a_headline_needs_enough_items():
    part = copy.deepcopy(results().benchmarks["own"])
    part.n_listed = 11
    assert part.headline("top1") is None
    part.n_listed = 10
    assert part.headline("top1").value == 0.5
    assert part.headline("top5") is None


def config(text: str, vision: str) -> CLIPConfig:
    return CLIPConfig(text_config={"hidden_act": text}, vision_config={"hidden_act": vision})


@pytest.mark.parametrize(
    ("activation", "name", "warned"),
    [
        ("gelu", "openai/clip-vit-base-patch32", True),
        ("quick_gelu", "openai/clip-vit-base-patch32", False),
        ("gelu", "checkpoints/NegCLIP.pth", True),
        ("gelu", "me/CE-CLIP", True),
        ("gelu", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", False),
        ("quick_gelu", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", True),
        ("gelu", "ViT-B-32-quickgelu-laion400m", True),
        ("gelu", "runs/mine", False),
    ],
)
def test_an_activation_that_the_name_speaks_against_is_warned_of(activation, name, warned):
    assert (activation_warning(config(activation, activation), name) is not None) == warned


def test_the_warning_names_the_tower():
    text = activation_warning(config("quick_gelu", "gelu"), "openai/clip")
    assert text.startswith('gelu in the vision tower, but "openai" in the name')


def test_a_tower_that_does_not_say_is_not_warned_of():
    tower = SimpleNamespace(to_dict=dict)
    assert activation_warning(SimpleNamespace(text_config=tower, vision_config=tower), "openai/clip") is None


def test_the_commit_of_a_repository_and_none_elsewhere(tmp_path, monkeypatch):
    assert git_commit(tmp_path) is None
    assert git_commit(tmp_path / "absent") is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = (tmp_path / ".git" / "HEAD").read_text().split()[1]
    assert git_commit(tmp_path) == (tmp_path / ".git" / head).read_text().strip()
    monkeypatch.setenv("PATH", "")
    assert git_commit(tmp_path) is None


def test_the_hardware_is_described():
    found = hardware(torch.device("cpu"))
    assert found["device"].startswith("cpu ")
    assert found["threads"] == torch.get_num_threads()
    assert found["memory_bytes"] > 2**28


def test_the_hardware_is_described_where_the_system_has_no_sysconf(monkeypatch):
    monkeypatch.setattr(provenance, "os", SimpleNamespace(name="nt"))
    assert set(hardware(torch.device("cpu"))) == {"device", "threads"}


def test_what_is_printed_is_short():
    own = results()
    assert repr(own.find("own/top1")) == "Score(0.500 [0.400, 0.600], n=10, chance=0.250)"
    assert repr(own.benchmarks["own"]) == "BenchmarkResult(Suite, recognition, 10 of 10 items: top1 0.500)"
    assert repr(own) == "Results(mine: own top1 0.500)"
    own.benchmarks["own"].columns = {}
    assert repr(own) == "Results(mine: own)"


def test_the_frame_has_a_row_per_score():
    own = results()
    own.benchmarks["own"].scores["other"] = Score(0.9, 4, (0.8, 1.0), 0.5)
    frame = own.to_frame()
    assert list(frame.columns) == ["benchmark", "score", "value", "interval", "chance", "ties", "n", "ability"]
    assert frame.iloc[0].tolist() == ["own", "top1", 0.5, (0.4, 0.6), 0.25, 0.0, 10, "recognition"]
    assert frame.iloc[1].score == "other"
    assert frame.ties.isna().tolist() == [False, True]
    assert frame.set_index("score").value.to_dict() == {"top1": 0.5, "other": 0.9}


def test_a_score_of_the_wrong_type_is_refused_where_it_is_made():
    with pytest.raises(StrictDataclassError, match="'n'"):
        Score(0.5, 10.0, (0.4, 0.6), 0.25)
    with pytest.raises(StrictDataclassError, match="'ability'"):
        BenchmarkResult("Suite", {}, {}, 1, 1, "abc", ability="seeing")
