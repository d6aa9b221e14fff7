"""With `return_loss=True`, as scripts for CLIP call it, our dual encoders answer with CLIP's own loss."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from compalign.modeling import CECLIPConfig, CECLIPModel, DeGLACLIPConfig, DeGLACLIPModel

MODELS = [(DeGLACLIPModel, DeGLACLIPConfig), (CECLIPModel, CECLIPConfig)]


@pytest.mark.parametrize(("model_class", "config_class"), MODELS)
def test_the_loss_is_that_of_clip(model_class, config_class, clip_sizes, caption_batch):
    torch.manual_seed(0)
    plain = CLIPModel(CLIPConfig(**clip_sizes()))
    ours = model_class(config_class(**clip_sizes()))
    ours.load_state_dict(plain.state_dict(), strict=False)
    batch = caption_batch(3, 0)
    expected, actual = plain(**batch, return_loss=True), ours(**batch, return_loss=True)
    torch.testing.assert_close(actual.loss, expected.loss, rtol=1e-5, atol=1e-6)
    assert torch.equal(actual[0], actual.loss), "Trainers take the first value of an output for its loss"
    actual.loss.backward()
    expected.loss.backward()
    torch.testing.assert_close(
        ours.visual_projection.weight.grad, plain.visual_projection.weight.grad, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("model_class", "config_class"), MODELS)
def test_without_it_there_is_no_loss_and_with_negatives_it_is_refused(
    model_class, config_class, clip_sizes, caption_batch
):
    model = model_class(config_class(**clip_sizes()))
    batch = caption_batch(2, 3)
    assert model(**batch).loss is None
    assert "loss" not in model(**batch, return_loss=False)
    with pytest.raises(ValueError, match="got 8 texts for 2 images"):
        model(**batch, return_loss=True)
