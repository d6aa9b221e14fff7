"""CE-CLIP's dual encoder: everything is CLIP's but the thresholds, which start at 0 and are saved with the weights."""

import logging

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForZeroShotImageClassification, CLIPModel
from transformers.utils import logging as transformers_logging

from compalign.modeling import CECLIPConfig, CECLIPModel, DeGLACLIPModel, load_model


@pytest.fixture
def model(clip_sizes) -> CECLIPModel:
    torch.manual_seed(0)
    return CECLIPModel(CECLIPConfig(**clip_sizes(), num_negatives=3))


def test_thresholds_start_at_zero_one_per_kind_of_negative(model):
    assert torch.equal(model.rank_threshold, torch.zeros(3))
    assert CECLIPConfig().num_negatives == 4


def test_thresholds_are_no_parameters(model):
    assert "rank_threshold" in dict(model.named_buffers())
    assert "rank_threshold" not in dict(model.named_parameters())


def test_a_clip_checkpoint_starts_with_thresholds_of_zero(clip_folder):
    """The model is built without memory and filled afterwards: what no checkpoint holds would stay uninitialised."""
    plain = CLIPModel.from_pretrained(clip_folder)
    model, report = CECLIPModel.from_pretrained(clip_folder, num_negatives=5000, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(model.rank_threshold, torch.zeros(5000))
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert torch.equal(load_model(clip_folder, CECLIPModel, num_negatives=2).rank_threshold, torch.zeros(2))


def test_starting_from_clip_reports_nothing(clip_folder, caplog, capfd):
    transformers_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        CECLIPModel.from_pretrained(clip_folder)
    transformers_logging.disable_propagation()
    assert caplog.messages == []
    assert "rank_threshold" not in "".join(capfd.readouterr())


def test_thresholds_are_saved_with_the_weights_and_restored(model, tmp_path):
    model.rank_threshold.copy_(torch.tensor([0.5, 1.25, 3.0]))
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["rank_threshold"].tolist() == [0.5, 1.25, 3.0]
    again, report = CECLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(again.rank_threshold, model.rank_threshold)
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        assert type(auto.from_pretrained(tmp_path)) is CECLIPModel


def test_plain_clip_reads_the_checkpoint_and_leaves_the_thresholds(model, caption_batch, tmp_path):
    model.save_pretrained(tmp_path)
    plain, report = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert report["unexpected_keys"] == {"rank_threshold"}
    assert not report["missing_keys"]
    inputs = caption_batch(3, 2)
    answer, reference = model(**inputs), plain(**inputs)
    torch.testing.assert_close(answer.logits_per_image, reference.logits_per_image, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer.logit_scale, plain.logit_scale.exp(), rtol=0, atol=0)


def test_the_output_carries_the_thresholds(model, caption_batch):
    assert model(**caption_batch(2, 3)).rank_threshold is model.rank_threshold


def test_both_models_share_one_forward():
    assert CECLIPModel.forward is DeGLACLIPModel.forward


def test_a_tuple_of_fields_carries_the_thresholds_last(model, caption_batch):
    *_, threshold = model(**caption_batch(2, 3), return_dict=False)
    assert threshold is model.rank_threshold
