"""CAL on two processes of which one may have images when the other has text alone: it trains as one process does."""

import importlib.util
import json

import pytest
import tiny_cal
import torch
from launch import REPOSITORY, TWO_PROCESSES, succeed
from transformers import LlavaForConditionalGeneration

from compalign.trainers import CALArguments

KINDS = "ittittii"  # rows of four steps, one on each process: it, ti, tt, ii
EVERYTHING = ["--train_parts", "vision", "projector", "language"]
FROZEN_TOWER = ["--train_parts", "projector", "language"]
STEPS = ["--kinds", KINDS, "--max_steps", "4", "--learning_rate", "0.02", "--evaluate", "true"]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs the extra [deepspeed]"
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process comes to, with both rows of each step in its batch, by the flags."""
    known = {}

    def train(*flags):
        if flags not in known:
            known[flags] = tmp_path_factory.mktemp("alone")
            tiny_cal.main("2", "1", str(known[flags]), *STEPS, *flags)
        return known[flags]

    return train


def deepspeed(folder, stage):
    """The flags of a shipped configuration; of stage 3 with every weight sharded, however small."""
    if not stage:
        return []
    config = json.loads((REPOSITORY / "scripts" / "deepspeed" / f"zero{stage}.json").read_text())
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = folder / "deepspeed.json"
    path.write_text(json.dumps(config))
    return ["--deepspeed", str(path)]


@pytest.mark.parametrize(
    ("stage", "flags", "checkpointing"),
    [
        (0, EVERYTHING, False),
        (0, EVERYTHING, True),
        pytest.param(2, EVERYTHING, True, marks=needs_deepspeed),
        pytest.param(2, FROZEN_TOWER, False, marks=needs_deepspeed),
        pytest.param(3, EVERYTHING, True, marks=needs_deepspeed),
        pytest.param(3, FROZEN_TOWER, False, marks=needs_deepspeed),
        pytest.param(3, [*FROZEN_TOWER, "--cal_contrast", "masked"], False, marks=needs_deepspeed),
    ],
)
def test_text_on_one_process_and_an_image_on_the_other_train_as_one(stage, flags, checkpointing, alone, tmp_path):
    """DDP is stage 0. LLaVA's last vision layer has no gradient in any step, its tower none in a step of text."""
    expected = alone(*flags)
    launched = [*STEPS, *flags, *deepspeed(tmp_path, stage), "--gradient_checkpointing", str(checkpointing)]
    succeed(*TWO_PROCESSES, tiny_cal.__file__, 1, 1, tmp_path / "two", *launched, DS_ACCELERATOR="cpu")
    one, two = (torch.load(folder / "log.pt", weights_only=True) for folder in (expected, tmp_path / "two"))
    for key, steps in (("loss", 4), ("eval_loss", 1)):
        values = [[log[key] for log in logs if key in log] for logs in (one, two)]
        assert len(values[0]) == steps
        assert values[1] == pytest.approx(values[0], rel=1e-4)
    weights = LlavaForConditionalGeneration.from_pretrained(tmp_path / "two").state_dict()
    for name, value in LlavaForConditionalGeneration.from_pretrained(expected).state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_micro_batches_of_both_kinds_train_as_one(tmp_path):
    """The first micro-batch of a step is an image and text, the second text and an image."""
    flags = [*EVERYTHING, "--learning_rate", "0.02", "--kinds", "itti" * 2, "--gradient_checkpointing", "true"]
    tiny_cal.main("4", "1", str(tmp_path / "one"), *flags)
    succeed(*TWO_PROCESSES, tiny_cal.__file__, 1, 2, tmp_path / "two", *flags)
    weights = LlavaForConditionalGeneration.from_pretrained(tmp_path / "two").state_dict()
    for name, value in LlavaForConditionalGeneration.from_pretrained(tmp_path / "one").state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@needs_deepspeed
def test_an_epoch_of_grouped_rows_ends_where_both_kinds_leave_some_over(tmp_path):
    """Seven rows with images and five of text, four at once; the leftovers are filled up, each kind for itself."""
    flags = ["--kinds", "iiitiitititt", "--group_by_modality", "true", "--num_train_epochs", "1", "--max_steps", "-1"]
    flags += deepspeed(tmp_path, 3)
    succeed(*TWO_PROCESSES, tiny_cal.__file__, 2, 1, tmp_path / "two", *flags, DS_ACCELERATOR="cpu")
    logs = torch.load(tmp_path / "two" / "log.pt", weights_only=True)
    assert len([log for log in logs if "loss" in log]) == 4
    assert (tmp_path / "two" / "config.json").is_file()


def test_fewer_rows_than_the_processes_read_at_once_are_refused(tmp_path, monkeypatch):
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(7), per_device_train_batch_size=4)
    trainer._get_train_sampler()
    monkeypatch.setattr(CALArguments, "world_size", 2)
    with pytest.raises(ValueError, match="7 rows are fewer than the 8 that 2 processes read at once"):
        trainer._get_train_sampler()


def test_reentrant_checkpoints_are_refused_on_several_processes(tmp_path, monkeypatch):
    def arguments(**kwargs):
        return CALArguments(output_dir=str(tmp_path), use_cpu=True, gradient_checkpointing=True, **kwargs)

    reentrant = {"use_reentrant": True}
    arguments(gradient_checkpointing_kwargs=reentrant)
    monkeypatch.setattr(CALArguments, "world_size", 2)
    arguments()
    with pytest.raises(ValueError, match="use_reentrant must be false on several processes, got true"):
        arguments(gradient_checkpointing_kwargs=reentrant)
