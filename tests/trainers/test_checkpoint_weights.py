"""A checkpoint's weights reach the model, whatever names they were saved under; a finished run stays finished."""

import copy

import pytest
import tiny
import tiny_cal
import tiny_multimodal
import torch
from safetensors.torch import load_file, save_file

from compalign.modeling.kinds import load_weights

ROWS = tiny.make_rows(16)
SAVING = {"save_strategy": "steps", "save_steps": 2}


def changed(model):
    """The same model with other weights."""
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data.add_(1.0)
    return other


@pytest.mark.parametrize("family", tiny_multimodal.FAMILIES)
def test_weights_of_every_family_come_back(family, tmp_path):
    """Most families are saved under other names than those of their parameters."""
    model = tiny_multimodal.make_model(family)
    model.save_pretrained(tmp_path)
    other = changed(model)
    load_weights(other, str(tmp_path))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_sharded_checkpoint_comes_back(tmp_path):
    model = tiny_multimodal.make_model("llava")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    other = changed(model)
    load_weights(other, str(tmp_path))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    model = tiny_multimodal.make_model("llava")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(name for name in weights if "multi_modal_projector" in name)]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lacks 1 weights of a LlavaForConditionalGeneration, such as model\.multi_modal"
    ):
        load_weights(model, str(tmp_path))


def test_a_resumed_cal_run_ends_as_an_uninterrupted_one(tmp_path):
    rows = tiny_cal.make_rows(16)
    whole = tiny_cal.make_trainer(tmp_path / "whole", rows, max_steps=4, **SAVING)
    whole.train()
    resumed = tiny_cal.make_trainer(tmp_path / "resumed", rows, model=changed(whole.model), max_steps=4, **SAVING)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_the_best_model_is_what_is_left_at_the_end(tmp_path):
    trainer = tiny_cal.make_trainer(
        tmp_path,
        tiny_cal.make_rows(16),
        eval_rows=tiny_cal.make_rows(4),
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # so that the first one is the best
        **SAVING,
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    best = changed(trainer.model)
    load_weights(best, trainer.state.best_model_checkpoint)
    for name, value in best.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value), name


@pytest.mark.parametrize("method", tiny.METHODS)
def test_a_finished_run_that_is_resumed_trains_nothing_more(method, tmp_path):
    """Its last step lies inside an epoch."""
    settings = {"max_steps": 6, "per_device_train_batch_size": 4, **SAVING}
    trainer = tiny.make_trainer(method, tmp_path, tiny.make_rows(20), **settings)
    trainer.train()
    finished = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    again = tiny.make_trainer(method, tmp_path, tiny.make_rows(20), **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    ]
    for name, value in finished.items():
        assert torch.equal(again.model.state_dict()[name], value), name
