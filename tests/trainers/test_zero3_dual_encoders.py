"""DeepSpeed in two processes (gloo) ends where one process with the whole batch ends: losses, weights, teacher."""

import importlib.util
from types import SimpleNamespace

import pytest
import run_engine
import torch
from launch import REPOSITORY, TWO_PROCESSES, succeed
from torch import nn
from transformers import AutoModel

from compalign.trainers.distributed import clamp_parameter, whole_shape
from compalign.trainers.trainer import check_launch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra [deepspeed]")


def run_alone(folder, method, kind, *flags):
    """One process, no engine, the whole batch."""
    folder.mkdir(parents=True)
    run_engine.main(method, kind, "whole", str(folder), "8", *map(str, flags))
    return torch.load(folder / "rank0.pt", weights_only=True)


def run_sharded(folder, stage, method, kind, start, *flags):
    """Two processes under a stage of ZeRO, half the batch each; what the first of them ended with."""
    config = REPOSITORY / "scripts" / "deepspeed" / f"zero{stage}.json"
    arguments = (method, kind, start, folder, 4, "--deepspeed", config, *flags)
    succeed(*TWO_PROCESSES, run_engine.__file__, *arguments, DS_ACCELERATOR="cpu")
    results = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, average in results[0]["teacher"].items():
        assert torch.equal(average, results[1]["teacher"][name]), name
    return results[0]


def assert_same(actual, expected):
    """Terms to four digits, teacher and thresholds, and which weights decay."""
    assert actual["decays"] == expected["decays"] != []
    terms = ("loss", "contrast", "grad_norm", "rank", "intra_modal", "image_grounded", "text_grounded", "distillation")
    for one, two in zip(expected["log"][:3], actual["log"][:3], strict=True):
        for term in (term for term in terms if term in one):
            assert two[term] == pytest.approx(one[term], rel=1e-4, abs=1e-6), term
    assert actual["teacher"].keys() == expected["teacher"].keys()
    for name, average in expected["teacher"].items():
        torch.testing.assert_close(actual["teacher"][name], average, rtol=1e-4, atol=1e-6, msg=name)
    for name in ("scale", "bias", "thresholds"):
        if expected[name] is not None:
            torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)


def assert_same_weights(one, two):
    """The saved models, decay included: it moves a weight by a thousandth of itself in each step."""
    expected, actual = (AutoModel.from_pretrained(folder).state_dict() for folder in (one, two))
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("stage", "method", "kind", "loaded"),
    [
        (3, "negclip", "clip", False),
        (3, "ceclip", "clip", True),
        (3, "degla", "clip", False),
        (2, "degla", "clip", False),
        (3, "degla", "siglip", True),
    ],
)
def test_shards_train_as_one_process(stage, method, kind, loaded, tmp_path):
    """Whether a model is sharded while it is loaded or when training starts."""
    expected = run_alone(tmp_path / "one", method, kind)
    start = "whole"
    if loaded:
        start = tmp_path / "start"
        run_engine.make_model(method, kind).save_pretrained(start)
    actual = run_sharded(tmp_path / "two", stage, method, kind, start)
    assert_same(actual, expected)
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert actual["teacher_sharded"] == [stage == 3] * len(expected["teacher"])


def test_a_sharded_teacher_is_saved_whole_and_resumed(tmp_path):
    """The checkpoint's file is that of one process; the steps after it are those of a run that went on."""
    saving = ("--save_strategy", "steps", "--save_steps", 2)
    expected = run_alone(tmp_path / "one", "degla", "clip", *saving)
    run_sharded(tmp_path / "two", 3, "degla", "clip", "whole", *saving, "--max_steps", 2)
    resume = ("--resume", tmp_path / "two" / "checkpoint-2")
    actual = run_sharded(tmp_path / "two", 3, "degla", "clip", "whole", *saving, *resume)
    assert_same(actual, expected)
    assert_same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("stage", [2, 3])
def test_the_scale_is_bounded_where_the_optimizer_keeps_it(stage, tmp_path):
    """In bfloat16 DeepSpeed steps float32 copies; a copy out of bounds would come back in the next step."""
    model = run_engine.make_model("degla", "clip")
    model.logit_scale.data.fill_(5.0)  # a scale of 148
    model.save_pretrained(tmp_path / "start")
    flags = ("--bf16", "true", "--learning_rate", "1e-9", "--max_steps", 2)
    actual = run_sharded(tmp_path / "two", stage, "degla", "clip", tmp_path / "start", *flags)
    assert actual["master"].numel() == 1
    assert actual["master"].item() == pytest.approx(torch.tensor(100.0).log().item(), abs=1e-5)
    assert actual["scale"].item() == pytest.approx(torch.tensor(100.0).log().item(), rel=2**-8)
    teacher = actual["teacher"]["logit_scale"].item()  # it follows first: 0.9 * 5 + 0.1 * 5, then towards the bound
    assert teacher == pytest.approx(0.9 * 5 + 0.1 * 4.60517, abs=1e-3)


def test_a_shard_has_the_shape_of_the_whole():
    """A partitioned parameter is flat and empty: its own number of axes says nothing."""
    parameter = nn.Parameter(torch.empty(0))
    parameter.ds_tensor, parameter.ds_shape = torch.zeros(6), torch.Size([3, 4])
    assert whole_shape(parameter) == (3, 4)
    assert whole_shape(nn.Parameter(torch.zeros(2, 5))) == (2, 5)


@pytest.mark.parametrize(("asked", "launched"), [(True, "false"), (None, "true")])
def test_fsdp_is_refused_however_it_is_asked_for(asked, launched, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", launched)
    with pytest.raises(ValueError, match=r"FSDP is not supported.*zero3\.json"):
        check_launch(SimpleNamespace(fsdp=asked, world_size=1, n_gpu=0))


def test_a_whole_parameter_is_clamped_in_place():
    parameter = nn.Parameter(torch.tensor([-1.0, 2.0, 9.0]))
    clamp_parameter(parameter, 0.0, 5.0)
    assert parameter.tolist() == [0.0, 2.0, 5.0]
