"""What every alignment trainer promises, on tiny models and generated scenes."""

import json

import pytest
import tiny
import torch
from transformers import CLIPModel

from compalign.modeling import CECLIPModel
from compalign.trainers.dual_encoder import split_captions
from compalign.trainers.losses import (
    clip_contrastive,
    cross_modal_rank,
    image_grounded_contrast,
    intra_modal_contrast,
    self_distillation,
    text_grounded_contrast,
)

TERMS = {
    "negclip": {"contrast"},
    "ceclip": {"contrast", "rank", "intra_modal"},
    "degla": {"contrast", "image_grounded", "text_grounded", "distillation"},
}
ROWS = tiny.make_rows(16)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def first_batch(trainer):
    """The first training batch and the embeddings of its parts."""
    inputs = next(iter(trainer.get_train_dataloader()))
    _, batch = trainer.embed(trainer.model, inputs)
    return inputs, batch


@pytest.mark.parametrize("method", tiny.METHODS)
def test_every_parameter_trains_and_every_term_is_logged(method, tmp_path):
    trainer = tiny.make_trainer(method, tmp_path, ROWS, eval_rows=ROWS[:8], max_steps=3)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    unchanged = [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])]
    assert unchanged == []
    trainer.save_state()
    history = json.loads((tmp_path / "trainer_state.json").read_text())["log_history"]
    for entry in history[:3]:
        assert TERMS[method] | {"loss"} <= entry.keys()
    metrics = trainer.evaluate()
    assert {f"eval_{term}" for term in TERMS[method]} | {"eval_loss"} <= metrics.keys()


def test_logged_loss_is_the_weighted_sum_of_the_logged_terms(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, max_steps=3, logging_steps=3)
    trainer.train()
    entry, args = trainer.state.log_history[0], trainer.args
    weighted = (
        entry["contrast"]
        + args.image_grounded_weight * entry["image_grounded"]
        + args.text_grounded_weight * entry["text_grounded"]
        + args.distillation_weight * entry["distillation"]
    )
    assert entry["loss"] == pytest.approx(weighted, rel=1e-5)


def test_degla_loss_is_equation_ten(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS)
    for parameter in trainer.teacher.parameters():
        parameter.data.mul_(1.1)
    inputs, student = first_batch(trainer)
    teacher = trainer.embed_teacher(inputs)
    existing = inputs["negative_mask"][..., None]
    scale, mask = student.logit_scale, inputs["negative_mask"]
    expected = (
        clip_contrastive(student.image, student.caption, scale, student.negative, mask)
        + 0.1 * image_grounded_contrast(student.image, student.caption, student.negative, scale, mask)
        + 0.1 * text_grounded_contrast(student.caption, teacher.caption, student.negative, 10.0, mask)
        + 0.005 * self_distillation(student.image, teacher.image)
        + 0.005 * self_distillation(student.caption, teacher.caption)
        + 0.005 * self_distillation(student.negative * existing, teacher.negative * existing)
    )
    torch.testing.assert_close(trainer.compute_loss(trainer.model, inputs), expected)


def test_ceclip_loss_and_its_bounded_threshold(tmp_path):
    trainer = tiny.make_trainer("ceclip", tmp_path, ROWS, rank_upper_bound=0.5)
    inputs, batch = first_batch(trainer)
    mask = inputs["negative_mask"]
    rank, following = cross_modal_rank(batch.image, batch.caption, batch.negative, batch.logit_scale, 0.0, mask)
    expected = (
        clip_contrastive(batch.image, batch.caption, batch.logit_scale, batch.negative, mask)
        + 0.2 * rank
        + 0.2 * intra_modal_contrast(batch.image, batch.caption, batch.negative, batch.logit_scale, mask)
    )
    trainer.model.train()
    torch.testing.assert_close(trainer.compute_loss(trainer.model, inputs), expected)
    torch.testing.assert_close(trainer.model.rank_threshold, following.clamp(0, 0.5))
    trainer.model.eval()
    held = trainer.model.rank_threshold.clone()
    trainer.compute_loss(trainer.model, inputs)
    assert torch.equal(trainer.model.rank_threshold, held)


def test_released_thresholds_start_over_in_every_epoch(tmp_path):
    trainer = tiny.make_trainer("ceclip", tmp_path, ROWS, as_released=True)
    trainer.model.rank_threshold.fill_(4.0)
    trainer.state.epoch = 0.75
    assert (trainer.thresholds() == 4).all()
    trainer.state.epoch = 1.0
    assert (trainer.thresholds() == 0).all()


@pytest.mark.parametrize(("settings", "margin"), [({}, 2.0), ({"rank_threshold": 7.5}, 7.5)])
def test_fixed_rule_trains_with_its_margin_from_the_first_step(settings, margin, tmp_path):
    """The hinges by hand, with a margin above `rank_upper_bound`, which bounds the other rules only."""
    trainer = tiny.make_trainer("ceclip", tmp_path, ROWS, rank_rule="fixed", rank_upper_bound=1.0, **settings)
    assert trainer.model.rank_threshold.tolist() == [margin] * 4
    inputs, batch = first_batch(trainer)
    true_score = batch.logit_scale * (batch.image * batch.caption).sum(-1, keepdim=True)
    negative_score = batch.logit_scale * (batch.image[:, None] * batch.negative).sum(-1)
    hinge = (margin - (true_score - negative_score)).clamp(min=0) * inputs["negative_mask"]
    trainer.args.intra_modal_weight = 0
    contrast = clip_contrastive(batch.image, batch.caption, batch.logit_scale, batch.negative, inputs["negative_mask"])
    trainer.model.train()
    torch.testing.assert_close(trainer.compute_loss(trainer.model, inputs), contrast + 0.2 * hinge.sum() / 16)
    assert trainer.model.rank_threshold.tolist() == [margin] * 4


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_margin_of_the_fixed_rule_leaves_the_others_alone(rule, tmp_path):
    trainers = [
        tiny.make_trainer("ceclip", tmp_path / str(margin), ROWS, max_steps=3, rank_rule=rule, rank_threshold=margin)
        for margin in (2.0, 50.0)
    ]
    for trainer in trainers:
        assert trainer.model.rank_threshold.tolist() == [0] * 4
        trainer.train()
    assert trainers[0].model.rank_threshold.any()
    for one, other in zip(*(trainer.model.state_dict().values() for trainer in trainers), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("margin", [-1.0, float("nan")])
def test_margin_below_zero_is_refused(margin, tmp_path):
    with pytest.raises(ValueError, match=f"rank_threshold must be 0 or more, got {margin}"):
        tiny.make_trainer("ceclip", tmp_path, ROWS, rank_threshold=margin)


def test_released_thresholds_of_the_fixed_rule_start_over_at_the_margin(tmp_path):
    trainer = tiny.make_trainer("ceclip", tmp_path, ROWS, as_released=True, rank_rule="fixed", rank_threshold=3.0)
    trainer.state.epoch = 1.0
    assert (trainer.thresholds() == 3).all()


def test_zero_weights_switch_terms_and_teacher_off(tmp_path):
    trainer = tiny.make_trainer(
        "degla", tmp_path, ROWS, max_steps=1, text_grounded_weight=0, distillation_weight=0, image_grounded_weight=0
    )
    assert trainer.teacher is None
    trainer.train()
    assert TERMS["degla"] & trainer.state.log_history[0].keys() == {"contrast"}


def test_captions_and_negatives_share_one_forward(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, max_steps=2)
    calls = []
    for model in (trainer.model, trainer.teacher):
        model.vision_model.register_forward_hook(lambda *_: calls.append("image"))
        model.register_forward_hook(lambda *_: calls.append("pair"))
    trainer.train()
    assert calls.count("pair") == calls.count("image") == 2 * 2  # student and teacher, two steps


def test_teacher_is_the_average_of_the_students(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, max_steps=1, teacher_decay=0.75)
    before = [value.clone() for value in trainer.teacher.parameters()]
    trainer.train()
    student = list(trainer.model.parameters())
    for average, old, new in zip(trainer.teacher.parameters(), before, student, strict=True):
        torch.testing.assert_close(average, 0.75 * old + 0.25 * new.data)
        assert not average.requires_grad


def test_logit_scale_stays_below_one_hundred(tmp_path):
    model = tiny.make_model(CLIPModel)
    model.logit_scale.data.fill_(9.0)
    tiny.make_trainer("negclip", tmp_path, ROWS, model=model, max_steps=1).train()
    assert model.logit_scale.exp().item() == pytest.approx(100.0, rel=1e-5)


def test_nan_stops_before_the_optimizer_step(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, max_steps=3, save_strategy="steps", save_steps=1)
    spoiled = trainer.model.text_model.final_layer_norm.weight
    spoiled.data.fill_(float("nan"))
    others = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(FloatingPointError, match=r"step 1: contrast, .*that may be the cause: \[\d"):
        trainer.train()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value.nan_to_num(), others[name].nan_to_num()), name
    assert not list(tmp_path.glob("checkpoint-*"))


def test_accumulated_gradient_is_the_mean_of_its_batches(tmp_path):
    """The Trainer would otherwise add them up: 4 steps, 4 times the gradient."""
    gradients = []
    for steps in (1, 4):
        trainer = tiny.make_trainer(
            "degla", tmp_path, ROWS[:4] * 4, gradient_accumulation_steps=steps, max_steps=1, crop_scale=None
        )
        trainer.get_train_dataloader = lambda t=trainer: [t.data_collator([t.train_dataset[i] for i in range(4)])] * 4
        kept = {}
        trainer.after_optimizer_step = lambda t=trainer, k=kept: k.update(
            {name: value.grad.clone() for name, value in t.model.named_parameters()}
        )
        trainer.train()
        gradients.append((trainer.state.log_history[0]["loss"], kept))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    for name, value in gradients[0][1].items():
        torch.testing.assert_close(value, gradients[1][1][name], rtol=1e-4, atol=1e-7)


def test_only_matrices_decay(tmp_path):
    trainer = tiny.make_trainer("negclip", tmp_path, ROWS)
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    assert "text_model.embeddings.token_embedding.weight" in decaying
    assert not {name for name in decaying if name.endswith("bias") or "layer_norm" in name or "logit_scale" in name}


def test_rows_to_evaluate_on_come_in_every_form(tmp_path):
    one = tiny.make_trainer("degla", tmp_path, ROWS, eval_rows=ROWS[:8]).evaluate()
    assert tiny.make_trainer("degla", tmp_path, ROWS).evaluate(ROWS[:8])["eval_loss"] == one["eval_loss"]
    several = tiny.make_trainer("degla", tmp_path, ROWS, eval_rows={"a": ROWS[:8], "b": ROWS[8:]}).evaluate()
    assert several["eval_a_loss"] == one["eval_loss"]
    assert several["eval_b_contrast"] != several["eval_a_contrast"]


def test_progress_bar_shows_every_term(tmp_path, capsys):
    tiny.make_trainer("degla", tmp_path, ROWS, max_steps=2, disable_tqdm=False).train()
    shown = capsys.readouterr().err
    for term in ("loss", *TERMS["degla"]):
        assert f"{term}=" in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_device_train_batch_size": 1}, "nothing to contrast"),
        ({"per_device_train_batch_size": 32}, "16 rows make no batch of 32"),
        ({"per_device_train_batch_size": 5, "dataloader_drop_last": False}, "single row"),
    ],
)
def test_batches_without_contrast_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tiny.make_trainer("degla", tmp_path, ROWS, **settings).train()


def test_negatives_that_disagree_with_the_thresholds_are_refused(tmp_path):
    model = tiny.make_model(CECLIPModel, num_negatives=3)
    with pytest.raises(ValueError, match="3 rank thresholds but num_negatives is 4"):
        tiny.make_trainer("ceclip", tmp_path, ROWS, model=model)


def test_flat_texts_get_their_negatives_axis_back():
    flat = torch.arange(6)  # 2 captions, then 2 negatives of each
    caption, negative = split_captions(flat, 2)
    assert caption.tolist() == [0, 1]
    assert negative.tolist() == [[2, 3], [4, 5]]
    assert split_captions(torch.zeros(3, 5), 3)[1].shape == (3, 0, 5)
    with pytest.raises(ValueError, match="5 text rows"):
        split_captions(torch.arange(5), 2)


def test_the_distillation_of_a_step_does_not_depend_on_its_parts(tmp_path):
    """A sum over rows: 8 at once or 2 by 4, with a teacher that differs from the student."""
    shares = []
    for batch, parts in ((8, 1), (2, 4)):
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": parts, "max_steps": 1}
        off = {"image_grounded_weight": 0.0, "text_grounded_weight": 0.0, "crop_scale": None}
        trainer = tiny.make_trainer(
            "degla", tmp_path, ROWS[:8], train_sampling_strategy="sequential", **settings, **off
        )
        for parameter in trainer.teacher.parameters():
            parameter.mul_(1.1)
        trainer.train()
        log = trainer.state.log_history[0]
        shares.append(log["loss"] - log["contrast"])
        assert shares[-1] == pytest.approx(trainer.args.distillation_weight * parts * log["distillation"], rel=1e-3)
    assert shares[0] > 1e-3
    assert shares[1] == pytest.approx(shares[0], rel=1e-3)


def test_under_deepspeed_a_broken_loss_stops_before_the_backward_pass(tmp_path, monkeypatch):
    """There the backward pass takes the optimizer's step, so the check before that step would come too late."""
    trainer = tiny.make_trainer("negclip", tmp_path, ROWS, max_steps=1)
    trainer.model.train()
    broken = {"contrast": torch.tensor(float("nan"))}
    trainer.record(broken, torch.arange(4))  # elsewhere it waits for the optimizer's step
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    with pytest.raises(FloatingPointError, match="loss is not finite at step 1: contrast"):
        trainer.record(broken, torch.arange(4))
