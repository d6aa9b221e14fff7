"""Adapters on every model: what is trained, saved, loaded over the base and merged."""

import json
from dataclasses import dataclass
from functools import partial

import pytest
import tiny
import tiny_cal
import tiny_comalign
import tiny_multimodal
import torch
from launch import TWO_PROCESSES, succeed
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageTextToText, SiglipConfig, SiglipModel

from compalign.modeling import DeGLACLIPModel, LlavaCALForConditionalGeneration
from compalign.trainers.adapters import PROJECTORS, TOWERS, AdapterArguments, add_adapters
from compalign.trainers.ema import ema_update, make_teacher

METHODS = [*tiny.METHODS, "comalign", "cal"]
LORA = AdapterArguments(lora_rank=2, lora_alpha=4)
DORA = AdapterArguments(lora_rank=2, lora_alpha=4, use_dora=True)


def make_base(method, folder):
    """A tiny model of a method, from a folder, as adapters know their base."""
    if method == "comalign":
        model = tiny_comalign.make_model()
        for head in (model.image_head, model.text_head):
            torch.nn.init.constant_(head.gate, 0.5)  # as after training
    elif method == "cal":
        tiny_multimodal.make_model("llava").save_pretrained(folder)
        return LlavaCALForConditionalGeneration.from_pretrained(folder)
    else:
        model = tiny.make_model(tiny.METHODS[method][0])
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def make_trainer(method, folder, model, **arguments):
    """A trainer of two steps at a rate that moves adapters visibly."""
    settings = {"model": model, "max_steps": 2, "learning_rate": 1e-2, "optim": "adamw_torch", **arguments}
    if method == "comalign":
        return tiny_comalign.make_trainer(folder, tiny_comalign.make_features(tiny_comalign.make_rows(8)), **settings)
    if method == "cal":
        return tiny_cal.make_trainer(folder, tiny_cal.make_rows(8), **settings)
    return tiny.make_trainer(method, folder, tiny.make_rows(8), **settings)


@torch.inference_mode()
def answers(trainer, model):
    """What a model answers to the trainer's first batch."""
    batch = next(iter(trainer.get_train_dataloader()))
    taken = {name: value for name, value in batch.items() if name not in ("row", "labels", "negative_mask")}
    taken.pop("text_exists", None)
    output = model.eval()(**taken)
    return {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}


def assert_same(found, expected, **tolerance):
    """Answers are equal but for the thresholds, which are no answer."""
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"rank_threshold"}:
        torch.testing.assert_close(found[name], expected[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", [LORA, DORA], ids=["lora", "dora"])
@pytest.mark.parametrize("method", METHODS)
def test_adapters_alone_are_trained_saved_loaded_and_merged(method, kind, tmp_path):
    base = make_base(method, tmp_path / "base")
    plain = type(base)
    model = add_adapters(base, kind)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = make_trainer(method, tmp_path / "run", model)
    untrained = answers(trainer, plain.from_pretrained(tmp_path / "base"))
    trainer.train()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    in_full = PROJECTORS[0] if method == "cal" else "nothing"
    assert all("lora_" in name or in_full in name for name in moved)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == moved

    trainer.save_model()
    assert {path.name for path in (tmp_path / "run").glob("*.safetensors")} == {"adapter_model.safetensors"}
    expected = answers(trainer, model)
    assert any((expected[name] - value).abs().max() > 1e-3 for name, value in untrained.items() if "mask" not in name)
    loaded = PeftModel.from_pretrained(plain.from_pretrained(tmp_path / "base"), tmp_path / "run")
    assert_same(answers(trainer, loaded), expected, rtol=0, atol=0)

    merged = loaded.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    auto_class = AutoModelForImageTextToText if method == "cal" else AutoModel
    restored = auto_class.from_pretrained(tmp_path / "merged")
    assert type(restored) is plain
    assert restored.state_dict().keys() == plain.from_pretrained(tmp_path / "base").state_dict().keys()
    assert_same(answers(trainer, restored), expected, rtol=1e-5, atol=1e-5)
