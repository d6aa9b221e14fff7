"""CALTrainer: its loss equals the plain forms, and its normaliser does not see how a step is cut."""

import pytest
import tiny_cal
import tiny_multimodal
import torch

from compalign.trainers.cal import PARTS, freeze_untrained
from compalign.trainers.cal_contrast import states_without_image, watched
from compalign.trainers.losses import visual_token_weights, weighted_next_token_loss

FAMILIES = ("llava", "llava_next", "qwen2_vl", "paligemma", "smolvlm", "gemma3", "mistral_window", "gemma3_window")


def reference_loss(model, batch, cal=True):
    """The loss from whole logits, with states of the masked pass."""
    batch = dict(batch)
    labels = batch.pop("labels")
    with watched(model) as call:
        logits = model(**batch, use_cache=False).logits.float()
    supervised = labels[:, 1:] != -100
    asked = torch.nn.functional.pad(supervised, (0, 1))
    weights = supervised.float()
    if cal:
        _, unseen = states_without_image(model, batch, call, asked, "masked")
        plain = torch.zeros_like(logits)
        with torch.no_grad():
            plain[asked] = model.get_output_embeddings()(unseen).float()
        target = labels[:, 1:].clamp_min(0)[..., None]
        delta = (logits - plain)[:, :-1].gather(2, target)[..., 0] * supervised
        weights = visual_token_weights(delta, supervised)
    return weighted_next_token_loss(logits, labels, weights), weights[supervised]


@pytest.mark.parametrize("cal", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_the_plain_forms(family, cal, tmp_path):
    model = tiny_multimodal.make_model(family).train()
    batch = tiny_multimodal.make_batch(family)
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, cal=cal, loss_chunk=3)
    expected, weights = reference_loss(model, batch, cal)
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(expected, leaves, allow_unused=True)
    actual = trainer.compute_loss(model, {**batch, "row": torch.arange(2)})
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)
    for one, two in zip(torch.autograd.grad(actual, leaves, allow_unused=True), gradients, strict=True):
        if two is not None:
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    if cal:
        assert weights.unique().numel() > 1, "all weights are alike: the test shows nothing"


def test_without_cal_the_loss_is_that_of_the_model(tmp_path):
    model, batch = tiny_multimodal.make_model("llava").train(), tiny_multimodal.make_batch("llava")
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, cal=False)
    loss = trainer.compute_loss(model, {**batch, "row": torch.arange(2)})
    torch.testing.assert_close(loss, model(**batch).loss, rtol=1e-5, atol=0)


def train(tmp_path, batch, accumulation, **arguments):
    trainer = tiny_cal.make_trainer(
        tmp_path,
        tiny_cal.make_rows(16),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=2,
        train_sampling_strategy="sequential",
        **arguments,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("clipping", [0.0, 0.5])
def test_a_step_in_micro_batches_is_the_same_step(tmp_path, clipping):
    """Weights, reported loss and gradient norm; only the sum of weights over the whole step makes them agree."""
    one, eight = (train(tmp_path, *cut, max_grad_norm=clipping) for cut in ((8, 1), (1, 8)))
    for (name, value), other in zip(one.model.named_parameters(), eight.model.parameters(), strict=True):
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    for single, cut in zip(one.state.log_history[:2], eight.state.log_history[:2], strict=True):
        assert cut["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert cut["grad_norm"] == pytest.approx(single["grad_norm"], rel=1e-3)


def test_terms_are_logged_and_weights_lie_within_the_clamp(tmp_path):
    logs = train(tmp_path, 4, 1).state.log_history[:-1]
    for log in logs:
        assert log["next_token"] == pytest.approx(log["loss"], rel=1e-4)
        assert 1 <= log["weight"] <= 5
    assert any(log["weight"] > 1 for log in logs)


def test_evaluation_reports_plain_cross_entropy(tmp_path):
    rows = tiny_cal.make_rows(4)
    losses = [
        tiny_cal.make_trainer(tmp_path, rows, eval_rows=rows, per_device_eval_batch_size=4, cal=cal).evaluate()
        for cal in (True, False)
    ]
    assert losses[0]["eval_loss"] == losses[1]["eval_loss"] > 0


def test_text_alone_needs_no_second_pass(tmp_path):
    rows = tiny_cal.make_rows(16)[3::4]
    trainer = tiny_cal.make_trainer(tmp_path, rows, max_steps=1)
    calls = []
    trainer.model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    trainer.train()
    assert len(calls) == 1
    assert trainer.state.log_history[0]["weight"] == 1


def test_weights_that_are_not_finite_stop_the_run(tmp_path):
    model = tiny_multimodal.make_model("llava")
    model.lm_head.weight.data[5:] = float("nan")
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, max_steps=1)
    with pytest.raises(FloatingPointError, match=r"next_token, weight.*may be the cause: \[\d"):
        trainer.train()


def test_the_row_whose_weight_is_not_finite_is_named(tmp_path, monkeypatch):
    """Among sixteen rows, number 6."""
    trainer = tiny_cal.make_trainer(
        tmp_path, tiny_cal.make_rows(16), max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=2
    )
    weigh = trainer.token_weights

    def spoiled(*arguments):
        weights = weigh(*arguments)
        return weights.masked_fill((spoiled.rows == 6)[:, None], float("nan"))

    compute = trainer.compute_loss

    def remember(model, inputs, *args, **kwargs):
        spoiled.rows = inputs["row"]
        return compute(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "token_weights", spoiled)
    monkeypatch.setattr(trainer, "compute_loss", remember)
    with pytest.raises(FloatingPointError, match=r"may be the cause: \[6\]"):
        trainer.train()


def test_the_released_normaliser_averages_micro_batches(tmp_path):
    """A step of two micro-batches is the mean of their own weighted means, whatever their sums of weights."""
    cut = train(tmp_path, 4, 2, cal_normaliser="released", learning_rate=0.0)
    whole = train(tmp_path, 4, 1, cal_normaliser="released", learning_rate=0.0)
    losses = [log["loss"] for log in whole.state.log_history[:2]]
    assert cut.state.log_history[0]["loss"] == pytest.approx(sum(losses) / 2, rel=3e-5)
    exact = train(tmp_path, 4, 2, learning_rate=0.0)
    assert exact.state.log_history[0]["loss"] != pytest.approx(sum(losses) / 2, rel=3e-5)


def test_grouping_by_modality_reaches_the_loader(tmp_path):
    """Every batch holds rows with images or rows of text alone."""
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(16), group_by_modality=True)
    kinds = [batch["row"] % 4 == 3 for batch in trainer.get_train_dataloader()]
    assert [kind.float().mean().item() for kind in kinds].count(1.0) == 1
    assert [kind.float().mean().item() for kind in kinds].count(0.0) == 3


def test_dropping_is_refused_where_it_is_not_exact(tmp_path):
    model, batch = tiny_multimodal.make_model("mistral_window").train(), tiny_multimodal.make_batch("mistral_window")
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, cal_contrast="dropped")
    with pytest.raises(ValueError, match="not exact for LlavaForConditionalGeneration: its attention reaches 8"):
        trainer.compute_loss(model, {**batch, "row": torch.arange(2)})


@pytest.mark.parametrize("trained", [["projector"], ["projector", "language"], ["vision"]])
def test_only_the_named_parts_are_trained(tmp_path, trained):
    model = tiny_multimodal.make_model("llava")
    freeze_untrained(model, trained)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, max_steps=2).train()
    parts = {"vision_tower": "vision", "multi_modal_projector": "projector", "language_model": "language"}
    parts["lm_head"] = "language"
    changed = {
        parts[part]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
        for part in parts
        if part in name
    }
    assert changed == set(trained)


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match=r"vision, projector, language, got \['head'\]"):
        freeze_untrained(tiny_multimodal.make_model("llava"), ["head"])


def test_the_vision_tower_has_its_own_learning_rate(tmp_path):
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), vision_learning_rate=0.01)
    optimizer = trainer.create_optimizer()
    tower = {id(parameter) for parameter in trainer.model.get_encoder("image").parameters()}
    rates = {(id(parameter) in tower, group["lr"]) for group in optimizer.param_groups for parameter in group["params"]}
    assert rates == {(True, 0.01), (False, 0.1)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(trainer.model.parameters()))


def test_gradient_checkpointing_changes_nothing(tmp_path):
    plain, recomputed = (train(tmp_path, 4, 1, gradient_checkpointing=on) for on in (False, True))
    for one, two in zip(plain.model.parameters(), recomputed.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", tiny_multimodal.FAMILIES)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_every_family_can_be_trained_alone(family, part):
    model = tiny_multimodal.make_model(family)
    freeze_untrained(model, [part])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    for other in set(PARTS) - {part}:
        freeze_untrained(model, [other])
        assert not trained & {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    freeze_untrained(model, PARTS)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_merger_of_qwen_is_its_projector():
    model = tiny_multimodal.make_model("qwen2_vl")
    freeze_untrained(model, ["projector"])
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("merger" in name for name in trained)
