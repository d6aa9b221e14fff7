"""Rows of text beside a blank image: the modules of a batch with images run, in order, and nothing else changes."""

import pytest
import tiny_cal
import tiny_multimodal
import torch

from compalign.data.chat.encoder import conversation_encoder
from compalign.trainers import blank_image
from compalign.trainers.cal_rows import ConversationCollator

FAMILIES = ("llava", "llava_next", "mistral_window", "qwen2_vl", "paligemma", "smolvlm", "gemma3", "gemma3_window")


def text_batch(family):
    """Two rows of text, of different lengths, with the inputs of the family."""
    words = torch.randint(8, tiny_multimodal.VOCABULARY, (2, 14), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(words)
    mask[1, 11:] = 0
    ids = words.masked_fill(mask == 0, tiny_multimodal.PAD)
    labels = ids.masked_fill((mask == 0) | (torch.arange(14) < 5), -100)
    batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    return batch | tiny_multimodal.FAMILIES[family].token_inputs(batch) | {"row": torch.arange(2)}


def make_trainer(folder, family, elsewhere):
    """A trainer of which another process has an image, or has none; everything of the model is trained."""
    model = tiny_multimodal.make_model(family).train()
    trainer = tiny_cal.make_trainer(folder, tiny_cal.make_rows(4), model=model)
    blank = tiny_multimodal.make_batch(family, images=(1,))
    blank["pixel_values"] = torch.ones_like(blank["pixel_values"])
    del blank["labels"]
    trainer._blank = blank
    trainer.anywhere = lambda *flags: [elsewhere or bool(flag) for flag in flags]
    return trainer


def trace(trainer, batch):
    """The modules that run in a step, in their order, the loss, and the gradients."""
    model, called = trainer.model, []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    for hook in hooks:
        hook.remove()
    return called, loss.detach(), {name: value.grad for name, value in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_text_runs_the_modules_of_an_image(family, tmp_path):
    """Sharded weights are gathered module by module: another order on another process is another weight."""
    image = {**tiny_multimodal.make_batch(family), "row": torch.arange(2)}
    expected, _, trained = trace(make_trainer(tmp_path, family, elsewhere=True), image)
    called, _, gradients = trace(make_trainer(tmp_path, family, elsewhere=True), text_batch(family))
    assert called == expected
    assert {name for name, value in gradients.items() if value is not None} == {
        name for name, value in trained.items() if value is not None
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_blank_image_changes_neither_loss_nor_gradients(family, tmp_path):
    batch = text_batch(family)
    _, alone, expected = trace(make_trainer(tmp_path, family, elsewhere=False), batch)
    _, beside, gradients = trace(make_trainer(tmp_path, family, elsewhere=True), batch)
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=0)
    for name, value in gradients.items():
        if expected[name] is not None:
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)
        elif value is not None:
            assert not value.any(), f"{name} learned from the blank image"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_back_is_that_of_the_rows(family, tmp_path):
    batch = text_batch(family)
    trainer = make_trainer(tmp_path, family, elsewhere=True)
    trainer.model.eval()
    _, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert len(outputs.logits) == 2


@pytest.mark.parametrize("family", ["llava", "llava_next", "paligemma"])
def test_the_blank_image_comes_from_the_processor_of_the_model(family):
    model = tiny_multimodal.make_model(family)
    if family == "paligemma":
        processor = tiny_multimodal.make_paligemma_processor()
        model.resize_token_embeddings(len(processor.tokenizer))
    else:
        processor = tiny_multimodal.make_processor(family)
    blank = blank_image.model_inputs(conversation_encoder(model, processor), ConversationCollator(processor))
    assert blank["pixel_values"].any()
    assert not {"labels", "row", "epoch"} & blank.keys()
    assert model(**blank).logits.isfinite().all()


def test_the_longer_of_the_processes_rows_decides_how_the_image_is_hidden(tmp_path):
    """Dropping embeds tokens and masking does not: one process may not do this while another does that."""
    short, long = (
        {**tiny_multimodal.make_batch("mistral_window", images=(1,)), "row": torch.arange(1)} for _ in range(2)
    )
    model = tiny_multimodal.make_model("mistral_window")
    model.config.get_text_config().sliding_window = short["input_ids"].shape[1]
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model.train())
    calls = []
    model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    trainer.compute_loss(model, short)
    assert len(calls) == 2  # dropped
    calls.clear()
    trainer.anywhere = lambda *flags: [True for _ in flags]
    trainer.compute_loss(model, long)
    assert len(calls) == 1  # masked, as on the other process


def test_cross_attention_refuses_text_beside_images(tmp_path):
    """Mllama attends to the images of other rows' places then: the text's own states would change."""
    model = tiny_multimodal.make_model("mllama").train()
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model=model, cal=False)
    image = {**tiny_multimodal.make_batch("mllama"), "row": torch.arange(2)}
    words = torch.arange(10, 20)[None]
    text = {"input_ids": words, "labels": words, "attention_mask": torch.ones_like(words), "row": torch.arange(1)}
    for batch in (image, text):
        assert trainer.compute_loss(model, batch).isfinite()
    trainer.anywhere = lambda *flags: [True for _ in flags]
    for batch in (image, text):
        with pytest.raises(ValueError, match="MllamaForConditionalGeneration runs its cross-attention for all rows"):
            trainer.compute_loss(model, batch)
