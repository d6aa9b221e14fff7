"""Evaluation during training leaves the training as it is, and finds the checkpoint to keep."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import run_composition
import tiny
import torch
from launch import TWO_PROCESSES, succeed
from PIL import Image
from transformers import CLIPModel

from compalign.evaluation import Results, SceneComposition, SceneZeroShot
from compalign.evaluation.callback import TRADE_OFF, CompositionCallback, plot_curve, trade_off


def benchmarks() -> list:
    return [SceneComposition(4), SceneZeroShot(16)]


def make_trainer(folder, *, every_steps: int = 2, options: dict | None = None, **arguments):
    trainer = tiny.make_trainer(
        "negclip", folder, tiny.make_rows(8), model=tiny.make_model(CLIPModel, dropout=0.2), max_steps=5, **arguments
    )
    trainer.add_callback(CompositionCallback(trainer, benchmarks(), every_steps, **(options or {})))
    return trainer


def evaluated(state) -> dict[int, float]:
    return {entry["step"]: entry[TRADE_OFF] for entry in state.log_history if TRADE_OFF in entry}


def test_the_trade_off_in_closed_form():
    assert trade_off(0.7, 0.6, 0.6) == 0.7
    assert trade_off(0.7, 0.9, 0.6) == 0.7  # a gain earns nothing
    assert trade_off(0.7, 0.6 - 0.01, 0.6, tolerance=0.011) == 0.7
    assert trade_off(0.7, 0.5, 0.6, penalty=2, tolerance=0.02) == pytest.approx(0.7 - 2 * 0.08)


def test_training_is_the_same_with_and_without(tmp_path):
    plain = make_trainer(tmp_path / "plain", every_steps=100)
    plain.remove_callback(CompositionCallback)
    watched = make_trainer(tmp_path / "watched")
    streams = []
    for trainer in (plain, watched):
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002 (the global stream is what must stay untouched)
        torch.manual_seed(3)
        trainer.train()
        streams.append((random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()))  # noqa: NPY002
        assert trainer.model.training
    assert streams[0] == streams[1]
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (plain, watched)]
    assert len(losses[0]) == 5  # a log of ours must not swallow the loss of its step
    assert losses[0] == losses[1]


def test_evaluates_at_the_start_every_few_steps_and_at_the_end(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    assert list(evaluated(trainer.state)) == [0, 2, 4, 5]
    for step in (0, 2, 4, 5):
        results = Results.from_json(tmp_path / "composition" / f"step-{step}" / "results.json")
        (logged,) = [entry for entry in trainer.state.log_history if TRADE_OFF in entry and entry["step"] == step]
        assert results.model == f"step {step}"
        assert logged["eval_scenes_composition/all_macro"] == results.metrics["scenes_composition/all_macro"]
        assert logged["eval_scenes_zero_shot/top1"] == results.metrics["scenes_zero_shot/top1"]
        assert "eval_scenes_composition/all_micro" not in logged
    with Image.open(tmp_path / "composition" / "curve.png") as image:
        assert np.asarray(image.convert("L")).std() > 10
    (axes,) = plot_curve([(0, results), (5, results)], best_step=5).axes
    assert list(axes.lines[0].get_xdata()) == [0, 5]


def scripted(monkeypatch, compositions: dict[int, float], retentions: dict[int, float]) -> None:
    """Let the evaluations say what the test wants."""
    from compalign.evaluation import callback

    def evaluate(model, processor, benchmarks, name, **options):
        results = real(model, processor, benchmarks, name=name, **options)
        step = int(name.split()[1])
        results.find("scenes_composition/all_macro").value = compositions[step]
        results.find("scenes_zero_shot/top1").value = retentions[step]
        return results

    real = callback.evaluate_model
    monkeypatch.setattr(callback, "evaluate_model", evaluate)


@pytest.mark.parametrize(("penalty", "best"), [(0.0, 4), (2.0, 2)])
def test_the_best_checkpoint_is_saved_and_recorded(tmp_path, monkeypatch, penalty, best):
    """Step 4 has most composition, but paid for it; step 0 would win and has no checkpoint."""
    scripted(monkeypatch, {0: 0.9, 2: 0.7, 4: 0.8, 5: 0.6}, {0: 0.5, 2: 0.495, 4: 0.4, 5: 0.4})
    trainer = make_trainer(tmp_path, options={"penalty": penalty})
    trainer.train()
    assert evaluated(trainer.state)[5] == pytest.approx(0.6 - penalty * 0.09)  # always against the start
    assert trainer.state.best_global_step == best
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    saved = CLIPModel.from_pretrained(trainer.state.best_model_checkpoint)
    assert saved.num_parameters() == trainer.model.num_parameters()


@pytest.mark.parametrize(("start", "warned"), [(0.9, True), (0.6, False)])
def test_a_training_that_was_not_worth_it_says_so(tmp_path, monkeypatch, caplog, start, warned):
    scripted(monkeypatch, {0: start, 2: 0.7, 4: 0.8, 5: 0.6}, dict.fromkeys((0, 2, 4, 5), 0.5))
    make_trainer(tmp_path).train()
    assert ("no evaluated step has a better trade-off" in caplog.text) == warned


def test_the_best_survives_the_limit_of_checkpoints_and_is_loaded_at_the_end(tmp_path, monkeypatch):
    scripted(monkeypatch, {0: 0.5, 2: 0.8, 4: 0.6, 5: 0.6}, dict.fromkeys((0, 2, 4, 5), 0.5))
    trainer = make_trainer(
        tmp_path, options={"load_best": True}, save_strategy="steps", save_steps=1, save_total_limit=1
    )
    trainer.train()
    best = CLIPModel.from_pretrained(tmp_path / "checkpoint-2")
    for name, value in best.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    recorded = json.loads((Path(trainer.state.best_model_checkpoint) / "trainer_state.json").read_text())
    assert recorded["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")


def test_resume_compares_with_the_original_start(tmp_path):
    whole = make_trainer(tmp_path / "whole", save_strategy="steps", save_steps=2)
    whole.train()
    resumed = make_trainer(tmp_path / "whole", save_strategy="steps", save_steps=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert evaluated(resumed.state) == evaluated(whole.state)
    (callback,) = [item for item in resumed.callback_handler.callbacks if isinstance(item, CompositionCallback)]
    assert [step for step, _ in callback.history] == [0, 2, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_steps": 0}, "every_steps 0"),
        ({"options": {"retention": "sugarcrepe/all_macro"}}, "need sugarcrepe too"),
        ({"metric_for_best_model": "loss"}, "metric_for_best_model 'loss'"),
    ],
)
def test_settings_that_could_not_work_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **options)


def test_a_score_that_is_not_there_stops_before_the_first_step(tmp_path):
    trainer = make_trainer(tmp_path, options={"composition": "scenes_composition/swap"})
    with pytest.raises(ValueError, match=r"no score 'scenes_composition/swap'.*swap_object"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_all_processes_agree_and_one_evaluates(tmp_path):
    succeed(*TWO_PROCESSES, run_composition.__file__, tmp_path)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for one, other in zip(first["logs"], second["logs"], strict=True):
        assert {key: one[key] for key in one if "eval" in key} == {key: other[key] for key in other if "eval" in key}
    assert [entry["step"] for entry in first["logs"] if TRADE_OFF in entry] == [0, 2, 4, 5]
    assert first["best"] == second["best"]
    assert Path(first["best"], "model.safetensors").is_file()
