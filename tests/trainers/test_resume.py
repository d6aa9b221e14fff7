"""Checkpoints are whole or absent, and a resumed run ends in the same bits as an uninterrupted one."""

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

ROWS = tiny.make_rows(16)
SETTINGS = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "negative_choice": "random", "num_negatives": 3}


class Interrupt(TrainerCallback):
    """Stops training after a number of steps, as a killed process would after its last checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step
        return control


def state_of(trainer):
    """Everything that a method carries: parameters, buffers, teacher."""
    state = dict(trainer.model.state_dict())
    if "degla" in type(trainer).__name__.lower():
        state |= {f"teacher.{name}": value for name, value in trainer.teacher.state_dict().items()}
    return state


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", tiny.METHODS)
def test_resumed_run_is_bit_equal(method, workers, tmp_path):
    """With random crops, random negatives and dropout; step 5 falls into the second epoch."""
    if workers and method != "degla":
        pytest.skip("the data path is the same for all methods")

    def make(folder, callbacks=None):
        extra = {"num_negatives": 3} if method == "ceclip" else {}
        model = tiny.make_model(tiny.METHODS[method][0], dropout=0.1, **extra)
        return tiny.make_trainer(
            method,
            tmp_path / folder,
            ROWS,
            model=model,
            callbacks=callbacks,
            dataloader_num_workers=workers,
            **SETTINGS,
        )

    whole = make("whole")
    whole.train()
    make("cut", [Interrupt(5)]).train()
    resumed = make("cut")
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    expected = state_of(whole)
    assert resumed.state.global_step == 6
    for name, value in state_of(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_checkpoint_holds_the_teacher_apart_from_the_model(tmp_path):
    tiny.make_trainer("degla", tmp_path, ROWS, **SETTINGS).train()
    saved = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    assert not [name for name in saved if "teacher" in name]
    teacher = load_file(tmp_path / "checkpoint-6" / "teacher.safetensors")
    assert teacher.keys() == saved.keys()
    assert any(not torch.equal(teacher[name], saved[name]) for name in saved)


def test_checkpoint_holds_the_rank_thresholds(tmp_path):
    trainer = tiny.make_trainer("ceclip", tmp_path, ROWS, **SETTINGS)
    trainer.train()
    saved = load_file(tmp_path / "checkpoint-6" / "model.safetensors")["rank_threshold"]
    assert torch.equal(saved, trainer.model.rank_threshold)
    assert saved.shape == (3,)


def test_resumed_run_keeps_the_margin_of_the_fixed_rule(tmp_path):
    """The margin of the checkpoint, whatever the argument of the resumed run says."""

    def make(folder, margin, callbacks=None):
        settings = {**SETTINGS, "rank_rule": "fixed", "rank_threshold": margin}
        return tiny.make_trainer("ceclip", tmp_path / folder, ROWS, callbacks=callbacks, **settings)

    whole = make("whole", 5.0)
    whole.train()
    make("cut", 5.0, [Interrupt(5)]).train()
    resumed = make("cut", 1.0)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    assert resumed.model.rank_threshold.tolist() == [5.0] * 3
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_interrupted_save_leaves_no_checkpoint(tmp_path, monkeypatch):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, **SETTINGS)
    plain_save = trainer._save_rng_state

    def fail_at_step_four(folder):
        if trainer.state.global_step == 4:
            raise OSError("disk full")
        plain_save(folder)

    monkeypatch.setattr(trainer, "_save_rng_state", fail_at_step_four)
    with pytest.raises(OSError, match="disk full"):
        trainer.train()
    assert get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    tiny.make_trainer("degla", tmp_path, ROWS, **SETTINGS).train(resume_from_checkpoint=True)
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (2, 4, 6)]


def test_old_checkpoints_are_rotated_and_the_best_is_kept(tmp_path):
    trainer = tiny.make_trainer(
        "degla",
        tmp_path,
        ROWS,
        eval_rows=ROWS[:8],
        save_total_limit=1,
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        **SETTINGS,
    )
    trainer.train()
    kept = {folder.name for folder in tmp_path.glob("checkpoint-*")}
    best = trainer.state.best_model_checkpoint
    assert best in {str(tmp_path / name) for name in kept}
    assert len(kept) <= 2


def test_checkpoint_of_another_trainer_is_refused(tmp_path):
    tiny.make_trainer("negclip", tmp_path, ROWS, **SETTINGS).train()
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, **SETTINGS)
    with pytest.raises(ValueError, match=r"holds no teacher\.safetensors"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


@pytest.mark.parametrize("steps", [4, 6])
def test_thresholds_that_start_over_in_every_epoch_do_so_once(steps, tmp_path):
    """Four steps per epoch: a checkpoint at the end of the first epoch, and one inside the second."""

    def make(folder, callbacks=None):
        model = tiny.make_model(tiny.METHODS["ceclip"][0], num_negatives=3)
        settings = SETTINGS | {"max_steps": 8}
        return tiny.make_trainer(
            "ceclip", tmp_path / folder, ROWS, model=model, callbacks=callbacks, as_released=True, **settings
        )

    whole = make("whole")
    whole.train()
    make("cut", [Interrupt(steps)]).train()
    resumed = make("cut")
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{steps}"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
