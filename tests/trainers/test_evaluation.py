"""An evaluation sees every row once, as the processor prepares it, and reads the features of its own rows."""

import pytest
import tiny
import tiny_comalign
import torch

from compalign.trainers.losses import clip_contrastive

ROWS = tiny.make_rows(16)


def test_the_last_rows_of_an_evaluation_are_seen(tmp_path):
    trainer = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows=ROWS[:7], per_device_eval_batch_size=4)
    seen = [row for batch in trainer.get_eval_dataloader() for row in batch["row"].tolist()]
    assert seen == list(range(7))
    assert trainer.args.dataloader_drop_last  # for training, as before
    assert "eval_loss" in trainer.evaluate()


def test_fewer_rows_than_a_batch_are_evaluated(tmp_path):
    metrics = tiny.make_trainer("degla", tmp_path, ROWS, eval_rows=ROWS[:6]).evaluate()
    assert {"eval_loss", "eval_contrast"} <= metrics.keys()


def test_an_evaluation_crops_nothing(tmp_path):
    trainer = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows=ROWS[:4], crop_scale=[0.3, 0.5])
    (batch,) = trainer.get_eval_dataloader()
    images = [row["image"] for row in ROWS[:4]]
    plain = trainer.processing_class.image_processor(images, return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"].cpu(), plain)
    assert trainer.data_collator.crop_scale == [0.3, 0.5] or trainer.data_collator.crop_scale == (0.3, 0.5)


@pytest.mark.parametrize("method", tiny.METHODS)
def test_predictions_come_for_every_row(method, tmp_path):
    trainer = tiny.make_trainer(method, tmp_path, ROWS, per_device_eval_batch_size=4)
    output = trainer.predict(ROWS[:6])
    assert output.metrics["test_loss"] > 0
    assert "test_contrast" in output.metrics


def test_terms_are_means_over_the_batches(tmp_path):
    """Two batches of four rows, one of them by hand."""
    trainer = tiny.make_trainer("negclip", tmp_path, ROWS, eval_rows=ROWS[:8], per_device_eval_batch_size=4)
    model, values = trainer.model.eval(), []
    for batch in trainer.get_eval_dataloader():
        with torch.no_grad():
            _, embedded = trainer.embed(model, batch)
            values.append(
                clip_contrastive(
                    embedded.image, embedded.caption, embedded.logit_scale, embedded.negative, embedded.negative_mask
                )
            )
    assert trainer.evaluate()["eval_contrast"] == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)


def test_terms_take_no_room_without_logs(tmp_path):
    trainer = tiny.make_trainer("degla", tmp_path, ROWS, max_steps=4, logging_strategy="no")
    trainer.train()
    assert {value.shape for value in trainer._terms.values()} == {(2,)}
    assert all(value[1] == 4 for value in trainer._terms.values())


def test_heads_are_evaluated_on_the_features_of_their_own_rows(tmp_path):
    """The stores of training and evaluation differ, and so do the places in them."""
    training = tiny_comalign.make_features(tiny_comalign.make_rows(8))
    other_rows = tiny_comalign.make_rows(12)[6:]
    evaluation = tiny_comalign.make_features(other_rows)
    trainer = tiny_comalign.make_trainer(tmp_path, training, per_device_eval_batch_size=6)
    own = tiny_comalign.make_trainer(tmp_path, evaluation, per_device_eval_batch_size=6)
    own.model.load_state_dict(trainer.model.state_dict())
    assert trainer.evaluate(evaluation)["eval_loss"] == pytest.approx(own.evaluate(evaluation)["eval_loss"], rel=1e-6)
