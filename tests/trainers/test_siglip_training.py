"""SigLIP in the trainers of dual encoders: its loss, its padding, its scale; NaFlex is refused."""

import pytest
import tiny
import tiny_siglip
import torch
from PIL import Image
from torch.nn.functional import logsigmoid, normalize
from transformers import AlignModel, CLIPModel, Siglip2Config, Siglip2Model, SiglipModel

from compalign.data.features.encode import store_images, store_texts
from compalign.data.features.store import Features
from compalign.modeling import load_model
from compalign.trainers import CECLIPTrainer
from compalign.trainers.dual_encoder import EmbeddedBatch, output_scale
from compalign.trainers.launch.dual_encoders import ModelArguments, start_model

METHODS = sorted(tiny.METHODS)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_batch(bias, images=3, negatives=2, width=6):
    """Random embeddings in which the first row lacks its second negative."""
    generator = torch.Generator().manual_seed(0)
    shapes = (images, width), (images, width), (images, negatives, width)
    embeddings = [normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1) for shape in shapes]
    mask = torch.ones(images, negatives, dtype=torch.float64)
    mask[0, 1] = 0
    return EmbeddedBatch(*embeddings, mask, torch.tensor([9.0], dtype=torch.float64), bias)


def first_step(trainer):
    """The loss of the first batch, without dropout."""
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return inputs, trainer.compute_loss(trainer.model, inputs)


@pytest.mark.parametrize("masked", [True, False])
def test_a_hard_negative_is_a_text_of_no_image(masked):
    """Pair by pair: every image with every text; a negative that does not exist has no pair."""
    batch = make_batch(torch.tensor([-4.0], dtype=torch.float64))
    texts = [*batch.caption, *batch.negative.flatten(0, 1)]
    total = 0.0
    for i, image in enumerate(batch.image):
        for j, text in enumerate(texts):
            if masked and j == len(batch.caption) + 1:
                continue
            logit = 9.0 * (image @ text) - 4.0
            total -= logsigmoid(logit if i == j else -logit)
    assert batch.contrast(masked).item() == pytest.approx(total.item() / len(texts))


def test_without_a_bias_the_contrast_is_clips():
    batch = make_batch(None)
    logits = 9.0 * batch.image @ torch.cat([batch.caption, batch.negative.flatten(0, 1)]).T
    logits[:, 4] = -torch.inf
    target = torch.arange(3)
    expected = torch.nn.functional.cross_entropy(logits, target)
    expected = (expected + torch.nn.functional.cross_entropy(logits[:, :3].T, target)) / 2
    assert batch.contrast().item() == pytest.approx(expected.item())


def test_terms_within_one_image_do_not_see_the_bias():
    """Why rank and own contrasts keep their form: a bias on all logits of an image cancels out."""
    logits = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(logits.softmax(-1), (logits - 12.9).softmax(-1))
    torch.testing.assert_close(logits[:, :1] - logits[:, 1:], (logits[:, :1] - 12.9) - (logits[:, 1:] - 12.9))


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_trains_and_the_scale_has_no_bound(method, tmp_path):
    """At 117 CLIP's bound would cut it to 100 in the first step, however small."""
    model = tiny_siglip.make_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = tiny_siglip.make_trainer(method, tmp_path, tiny.make_rows(8), model, max_steps=2, learning_rate=1e-3)
    trainer.train()
    assert {name for name, value in model.named_parameters() if torch.equal(value, before[name])} <= dead_parts(model)
    assert model.logit_scale.exp().item() > 110
    assert model.logit_bias.item() != before["logit_bias"].item()


def dead_parts(model):
    """What no gradient ever reaches in a tiny SigLIP: keys of the pooling head have no effect through their bias."""
    return {name for name, _ in model.named_parameters() if name.endswith("k_proj.bias")}


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_step_moves_the_scale_no_further_than_any_weight(method, tmp_path):
    model = tiny_siglip.make_model()
    before = model.logit_scale.item()
    tiny_siglip.make_trainer(method, tmp_path, tiny.make_rows(4), model, max_steps=1, learning_rate=1e-9).train()
    assert model.logit_scale.item() == pytest.approx(before, abs=1e-6)


def test_the_loss_without_negatives_is_that_of_transformers(tmp_path):
    model = tiny_siglip.make_model().eval()
    trainer = tiny_siglip.make_trainer("negclip", tmp_path, tiny.make_rows(4), model, num_negatives=0)
    inputs, loss = first_step(trainer)
    plain = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"], return_loss=True)
    torch.testing.assert_close(loss, plain.loss)


def test_captions_keep_the_padding_that_siglip_saw(tmp_path):
    """In training and in evaluation: the full length, no mask, and so the same embeddings."""
    model, processor = tiny_siglip.make_model().eval(), tiny_siglip.make_processor()
    assert "attention_mask" in processor.tokenizer(["a"])
    rows = tiny.make_rows(4)
    trainer = tiny_siglip.make_trainer("negclip", tmp_path, rows, model, num_negatives=1)
    batch = trainer.data_collator([[{**row, "row": place, "epoch": 0}] for place, row in enumerate(rows)])
    assert batch["input_ids"].shape == (8, tiny_siglip.LENGTH)
    assert "attention_mask" not in batch
    store, captions = Features(), [row["caption"] for row in rows]
    keys = store_texts(model, processor, captions, store, progress=False).keys
    with torch.no_grad():
        trained = model.get_text_features(input_ids=batch["input_ids"][:4]).pooler_output
        length = {"padding": "max_length", "truncation": True, "max_length": tiny_siglip.LENGTH}
        ids = processor.tokenizer(captions, return_tensors="pt", **length)
        hidden = model.get_text_features(**ids).pooler_output
    torch.testing.assert_close(store.read(list(keys)), trained, rtol=1e-4, atol=1e-5)
    assert torch.cosine_similarity(hidden, trained).min() < 0.999


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_siglip_starts_in_its_own_class_and_ends_in_it(method, tmp_path):
    tiny_siglip.make_model().save_pretrained(tmp_path / "start")
    extra = {"num_negatives": 4} if method == "ceclip" else {}
    model = start_model(tiny.METHODS[method][0] if method != "negclip" else CLIPModel, argument(tmp_path), 0, **extra)
    assert type(model) is SiglipModel
    trainer = tiny_siglip.make_trainer(method, tmp_path / "end", tiny.make_rows(8), model, max_steps=1)
    trainer.train()
    trainer.save_model()
    again = load_model(tmp_path / "end")
    assert type(again) is SiglipModel
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], msg=name)


def argument(tmp_path) -> ModelArguments:
    """A start from the saved model."""
    return ModelArguments(model=str(tmp_path / "start"))


def test_thresholds_of_a_siglip_are_resumed(tmp_path):
    """Its own file has no place for them."""
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "rank_rule": "max"}
    rows = tiny.make_rows(8)
    whole = tiny_siglip.make_trainer("ceclip", tmp_path / "whole", rows, **settings)
    whole.train()
    resumed = tiny_siglip.make_trainer("ceclip", tmp_path / "resumed", rows, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert isinstance(resumed, CECLIPTrainer)
    assert resumed.model.rank_threshold.abs().sum() > 0
    torch.testing.assert_close(resumed.model.rank_threshold, whole.model.rank_threshold, rtol=0, atol=0)


def test_naflex_is_refused_in_training_and_in_evaluation(tmp_path):
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Siglip2Model(Siglip2Config(text_config={**tower, "vocab_size": 600}, vision_config=tower))
    with pytest.raises(ValueError, match="NaFlex"):
        tiny_siglip.make_trainer("negclip", tmp_path, tiny.make_rows(4), model)
    with pytest.raises(ValueError, match="NaFlex"):
        store_images(model, tiny_siglip.make_processor(), [Image.new("RGB", (8, 8))], Features())


def test_a_model_without_a_scale_is_refused():
    with torch.device("meta"):
        model = AlignModel(AlignModel.config_class())
    with pytest.raises(ValueError, match="AlignModel has no logit_scale"):
        output_scale(model)


@pytest.mark.parametrize("make", [lambda: tiny.make_model(CLIPModel), tiny_siglip.make_model])
def test_outputs_carry_scale_and_bias_as_parts_of_the_graph(make):
    model = make()
    output_scale(model)
    inputs = {"input_ids": torch.ones(2, 8, dtype=torch.long), "pixel_values": torch.zeros(2, 3, 32, 32)}
    outputs = model(**inputs)
    torch.testing.assert_close(outputs.logit_scale, model.logit_scale.exp())
    assert outputs.logit_scale.requires_grad
    assert ("logit_bias" in outputs) == hasattr(model, "logit_bias")
    assert isinstance(model(**inputs, return_dict=False), tuple)
