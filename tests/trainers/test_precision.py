"""What is trained is float32 in every precision, and DeGLA's teacher is where its batches are."""

import pytest
import tiny
import tiny_cal
import tiny_multimodal
import torch
from transformers import PreTrainedModel

from compalign.modeling import DeGLACLIPModel
from compalign.modeling.kinds import load_weights
from compalign.trainers import CALArguments
from compalign.trainers.adapters import AdapterArguments, add_adapters
from compalign.trainers.cal import freeze_untrained
from compalign.trainers.launch.cal import ConversationModelArguments, start_model
from compalign.trainers.trainer import hold_in_float32

FAMILIES = [family for family in tiny_multimodal.FAMILIES if family != "mllama"]  # which trains without CAL's weights
SMALL_STEPS = {"optim": "adamw_torch", "learning_rate": 2e-5, "max_steps": 1, "weight_decay": 0.0}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def dtypes(model: torch.nn.Module, trained: bool) -> set[torch.dtype]:
    """Data types of the trained or of the frozen parameters."""
    return {parameter.dtype for parameter in model.parameters() if parameter.requires_grad == trained}


def start(folder, **arguments) -> PreTrainedModel:
    """The start of a recipe in bfloat16, from a saved LLaVA."""
    tiny_multimodal.make_model("llava").save_pretrained(folder / "start")
    place = ConversationModelArguments(model=str(folder / "start"), **arguments)
    return start_model(place, CALArguments(str(folder), bf16=True, use_cpu=True), None)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_recipe_in_bfloat16_trains_float32(rank, tmp_path):
    """With adapters the projector is trained in full, and not in half precision either; the rest is bfloat16."""
    model = start(tmp_path, lora_rank=rank)
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model, bf16=True, **SMALL_STEPS)
    trainer.train()
    projector = {name for name, value in model.named_parameters() if "projector" in name and value.requires_grad}
    assert projector
    assert dtypes(model, trained=True) == {torch.float32}
    assert dtypes(model, trained=False) == {torch.bfloat16 if rank else torch.float32}


@pytest.mark.parametrize("rank", [0, 4])
def test_a_small_step_in_bfloat16_moves_what_it_moves_in_float32(rank, tmp_path):
    """A step of 2e-5 is below the resolution of most weights in bfloat16: a quarter of them moved."""
    moves = {}
    for bf16 in (True, False):
        model = start(tmp_path / str(bf16), lora_rank=rank)
        if not bf16:
            model.float()
        hold_in_float32(model, mixed_precision=True)
        before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        settings = {**SMALL_STEPS, "bf16": bf16, "per_device_train_batch_size": 4}
        tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model, **settings).train()
        after = dict(model.named_parameters())
        moves[bf16] = torch.cat([(after[name] - value).flatten() for name, value in before.items()]).detach()
    half, full = moves[True], moves[False]
    assert (half != 0).sum() >= 0.99 * (full != 0).sum() > 0
    assert half.norm().item() == pytest.approx(full.norm().item(), rel=0.02)


def test_a_model_that_comes_in_half_precision_is_trained_in_float32(tmp_path):
    model = tiny_multimodal.make_model("llava", torch.bfloat16).train()
    tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model, bf16=True, **SMALL_STEPS).train()
    assert dtypes(model, trained=True) == {torch.float32}


def test_frozen_weights_in_half_precision_need_mixed_precision(tmp_path):
    model = tiny_multimodal.make_model("llava", torch.bfloat16)
    freeze_untrained(model, ["projector"])
    trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model, **SMALL_STEPS)
    with pytest.raises(ValueError, match="set bf16, or load the model in float32"):
        trainer.train()


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_and_projector_meet_bfloat16_weights_in_every_family(family, tmp_path):
    """The loss in mixed precision is that of float32 within the rounding, and all gradients are float32."""
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        base = tiny_multimodal.make_model(family, dtype).train()
        model = add_adapters(base, AdapterArguments(lora_rank=2, adapted=["text"]))
        hold_in_float32(model, mixed_precision=True)
        bf16 = dtype == torch.bfloat16
        trainer = tiny_cal.make_trainer(tmp_path, tiny_cal.make_rows(4), model, bf16=bf16, cal=False)
        batch = {**tiny_multimodal.make_batch(family), "row": torch.arange(2)}
        loss = trainer.compute_loss(trainer.accelerator.prepare_model(model), batch)
        loss.backward()
        losses.append(loss.item())
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_checkpoint_of_two_precisions_is_loaded_without_loss(tmp_path):
    """The first weight is a frozen one in bfloat16: its data type is not that of the trained ones."""
    model = tiny_multimodal.make_model("llava")
    model.get_encoder("image").bfloat16()
    model.save_pretrained(tmp_path)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    load_weights(model, str(tmp_path))
    for name, value in model.state_dict().items():
        assert value.dtype == saved[name].dtype
        assert torch.equal(value, saved[name]), name


# DeGLA's teacher


@pytest.mark.parametrize("settings", [{"bf16_full_eval": True}, {}], ids=["full evaluation", "engine"])
def test_the_teacher_is_made_where_batches_are_put(settings, tmp_path, monkeypatch):
    """The device meta in the place of a GPU; the Trainer leaves the student where it is, as DeepSpeed wants it."""
    arguments_class = tiny.METHODS["degla"][2]
    meta = property(lambda arguments: arguments._setup_devices and torch.device("meta"))
    monkeypatch.setattr(arguments_class, "device", meta)
    monkeypatch.setattr(arguments_class, "place_model_on_device", False)
    trainer = tiny.make_trainer("degla", tmp_path, tiny.make_rows(4), **settings)
    assert {value.device.type for value in trainer.model.parameters()} == {"cpu"}
    tensors = [*trainer.teacher.parameters(), *trainer.teacher.buffers()]
    assert {value.device.type for value in tensors} == {"meta"}


@pytest.mark.parametrize("adapted", [False, True])
def test_an_evaluation_in_bfloat16_meets_a_float32_teacher(adapted, tmp_path):
    model = tiny.make_model(DeGLACLIPModel)
    if adapted:
        model.save_pretrained(tmp_path / "base")
        model = add_adapters(DeGLACLIPModel.from_pretrained(tmp_path / "base"), AdapterArguments(lora_rank=2))
    rows = tiny.make_rows(8)
    full = tiny.make_trainer("degla", tmp_path, rows, rows, model).evaluate()
    half = tiny.make_trainer("degla", tmp_path, rows, rows, model, bf16_full_eval=True).evaluate()
    assert half["eval_loss"] == pytest.approx(full["eval_loss"], rel=0.05)
    assert half["eval_distillation"] < 0.1
