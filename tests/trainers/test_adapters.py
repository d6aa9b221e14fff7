"""Adapters on every model: what is trained, saved, loaded over the base and merged."""

import copy
import json
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
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, SiglipConfig, SiglipModel

from compalign.hub_cards.load_back import fixed_inputs
from compalign.modeling import DeGLACLIPModel, LlavaCALForConditionalGeneration
from compalign.scripts import merge as merge_adapter
from compalign.trainers import CALArguments
from compalign.trainers.adapters import PROJECTORS, AdapterArguments, add_adapters
from compalign.trainers.degla import ema_update, make_teacher
from compalign.trainers.launch.cal import ConversationModelArguments
from compalign.trainers.launch.cal import start_model as start_conversational_model
from compalign.trainers.launch.dual_encoders import ModelArguments, start_model

METHODS = [*tiny.METHODS, "comalign", "cal"]
make_arguments = partial(AdapterArguments, lora_rank=2, lora_alpha=4)


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


def take_batch(trainer):
    """Arguments of forward: the trainer's first batch without what only the loss needs."""
    beside = {"row", "labels", "negative_mask", "image_exists", "text_exists"}
    return {name: value for name, value in next(iter(trainer.get_train_dataloader())).items() if name not in beside}


@torch.inference_mode()
def answers(model, batch):
    """What a model answers; the thresholds of CE-CLIP are no answer."""
    output = model.eval()(**batch)
    return {
        name: value.clone()
        for name, value in output.items()
        if isinstance(value, torch.Tensor) and name != "rank_threshold"
    }


@pytest.mark.parametrize("use_dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("method", METHODS)
def test_adapters_alone_are_trained_saved_loaded_and_merged(method, use_dora, tmp_path):
    base = make_base(method, tmp_path / "base")
    plain = type(base)
    adapted = ["text"] if method == "cal" else ["text", "vision"]
    model = add_adapters(base, make_arguments(use_dora=use_dora, adapted=adapted))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = make_trainer(method, tmp_path / "run", model)
    batch = take_batch(trainer)
    untrained = answers(plain.from_pretrained(tmp_path / "base"), batch)
    trainer.train()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    in_full = {name for name in before if method == "cal" and "multi_modal_projector.modules_to_save" in name}
    assert moved == in_full | {name for name in before if "lora_" in name}
    assert any("magnitude" in name for name in moved) == use_dora

    trainer.save_model()
    assert {path.name for path in (tmp_path / "run").glob("*.safetensors")} == {"adapter_model.safetensors"}
    # In training an output also carries the scale of its logits.
    expected = {name: value for name, value in answers(model, batch).items() if name in untrained}
    assert any((expected[name] - value).abs().max() > 1e-3 for name, value in untrained.items() if "mask" not in name)
    loaded = PeftModel.from_pretrained(plain.from_pretrained(tmp_path / "base"), tmp_path / "run")
    auto_class = AutoModelForImageTextToText if method == "cal" else AutoModel
    for found in (loaded, auto_class.from_pretrained(tmp_path / "run")):
        torch.testing.assert_close(answers(found, batch), expected, rtol=0, atol=0)

    loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
    restored = auto_class.from_pretrained(tmp_path / "merged")
    assert type(restored) is plain
    assert restored.state_dict().keys() == plain.from_pretrained(tmp_path / "base").state_dict().keys()
    torch.testing.assert_close(answers(restored, batch), expected, rtol=1e-5, atol=1e-5)


def test_attention_and_mlp_of_both_towers_are_adapted_and_nothing_else():
    """SigLIP's pooling head reads `out_proj.weight` itself, where an adapter would be idle."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    siglip = SiglipModel(
        SiglipConfig(
            text_config={**tower, "projection_size": 32},
            vision_config={**tower, "image_size": 32, "patch_size": 8},
        )
    )
    layer = {*(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2"}
    expected = {f"{name}_model.encoder.layers.0.{part}" for name in ("text", "vision") for part in layer}
    assert adapted_modules(add_adapters(siglip, make_arguments())) == expected


@pytest.mark.parametrize("adapted", [["text"], ["vision"]])
def test_one_tower_alone_is_adapted(adapted):
    model = add_adapters(tiny.make_model(DeGLACLIPModel), make_arguments(adapted=adapted))
    assert {name.partition("_model.")[0] for name in adapted_modules(model)} == set(adapted)
    assert not model.logit_scale.requires_grad


@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl", "smolvlm", "paligemma", "gemma3"])
def test_language_model_of_any_kind_is_adapted_and_its_projector_trained_in_full(family):
    model = tiny_multimodal.make_model(family)
    language = {id(part) for part in model.get_decoder().modules()}
    inside = {name for name, part in model.named_modules() if id(part) in language}
    adapted = add_adapters(model, make_arguments(adapted=["text"]))
    found = adapted_modules(adapted)
    layers = model.config.get_text_config().num_hidden_layers
    assert found <= inside
    assert len(found) == 7 * layers
    trained = {name for name, value in adapted.named_parameters() if value.requires_grad and "lora_" not in name}
    assert trained
    assert all(any(f".{part}.modules_to_save." in name for part in PROJECTORS) for name in trained)


def adapted_modules(model):
    """Paths in the base of the modules that have an adapter."""
    found = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    return {name.removeprefix("base_model.model.") for name in found}


def test_adapters_begin_as_the_base_and_alike_on_all_processes():
    first, second = (add_adapters(tiny.make_model(DeGLACLIPModel), make_arguments(), seed) for seed in (3, 3))
    other = add_adapters(tiny.make_model(DeGLACLIPModel), make_arguments(), 4)
    for (name, one), two, three in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three) == ("lora_A" not in name)
    assert all(not value.any() for name, value in first.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (
            partial(tiny.make_model, DeGLACLIPModel),
            {"adapted": ["image"]},
            r"some of text, vision for DeGLACLIPModel, got \['image'\]",
        ),
        (partial(tiny.make_model, DeGLACLIPModel), {"adapted": []}, r"got \[\]"),
        (partial(tiny_comalign.make_model, text_head=False), {}, "some of vision for ComAlignModel"),
        (tiny_comalign.make_model, {}, "image_head.gate, text_head.gate is zero"),
    ],
)
def test_adapters_that_would_do_nothing_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        add_adapters(make(), make_arguments(**settings))


@pytest.mark.parametrize(
    ("settings", "message"), [({"use_dora": True}, "set lora_rank"), ({"lora_rank": -1}, "0 or more, got -1")]
)
def test_ranks_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdapterArguments(**settings)


def test_random_weights_are_not_adapted():
    with pytest.raises(ValueError, match="set lora_rank=0"):
        start_model(DeGLACLIPModel, ModelArguments(from_scratch=True, lora_rank=2), seed=0)


def test_a_model_without_a_folder_is_not_adapted(tmp_path):
    start = ConversationModelArguments(vision_tower="anywhere", lora_rank=2)
    with pytest.raises(ValueError, match="save the assembled model"):
        start_conversational_model(start, CALArguments(str(tmp_path), use_cpu=True), None)


# DeGLA's teacher


def test_teacher_shares_what_the_student_does_not_train():
    student = add_adapters(tiny.make_model(DeGLACLIPModel), make_arguments())
    teacher = make_teacher(student)
    for (name, own), average in zip(student.named_parameters(), teacher.parameters(), strict=True):
        assert (average is own) == ("lora_" not in name), name
        assert not average.requires_grad
    assert all(value.requires_grad for name, value in student.named_parameters() if "lora_" in name)


def difference_of_teachers(step, resting=None, decay=0.8):
    """Distance of a teacher of adapters from the average of merged weights, by how far that average moved."""
    torch.manual_seed(0)
    student = add_adapters(tiny.make_model(DeGLACLIPModel), make_arguments())
    teacher, average = make_teacher(student), merged_weights(student)
    start = [value.clone() for value in average]
    trained = [(name, own) for name, own in student.named_parameters() if own.requires_grad]
    followed = dict(teacher.named_parameters())
    for _ in range(10):
        for name, own in trained:
            sign = torch.randn_like(own).sign()
            own.data += 0 if resting is not None and resting in name else step * sign
        ema_update([followed[name] for name, _ in trained], [own for _, own in trained], decay)
        ema_update(average, merged_weights(student), decay)
    return distance(merged_weights(teacher), average) / distance(start, average)


def merged_weights(model):
    """The weights of the plain model that an adapted one amounts to."""
    return list(copy.deepcopy(model).merge_and_unload().state_dict().values())


def distance(one, other):
    """Of all weights together."""
    return sum((a - b).square().sum() for a, b in zip(one, other, strict=True)).sqrt().item()


def test_teacher_of_adapters_averages_merged_weights_where_one_factor_rests():
    assert difference_of_teachers(step=0.01, resting="lora_A") < 1e-5


def test_teacher_of_adapters_is_off_by_terms_of_second_order():
    """A tenth of the step leaves a tenth of the relative difference."""
    large, small = difference_of_teachers(step=0.01), difference_of_teachers(step=0.001)
    assert 1e-3 < small < large < 0.1
    assert large / small == pytest.approx(10, rel=0.1)


def test_teacher_follows_adapters_and_is_saved_without_the_base(tmp_path):
    """At decay 0 the teacher is the student."""
    model = add_adapters(make_base("degla", tmp_path / "base"), make_arguments())
    trainer = make_trainer("degla", tmp_path / "run", model, teacher_decay=0.0, save_strategy="steps", save_steps=2)
    batch = take_batch(trainer)
    trainer.train()
    torch.testing.assert_close(answers(trainer.teacher, batch), answers(model, batch), rtol=0, atol=0)
    saved = load_file(tmp_path / "run" / "checkpoint-2" / "teacher.safetensors")
    assert saved.keys() == {name for name, _ in model.named_parameters() if "lora_" in name}


# Trainers


@pytest.mark.parametrize("method", ["ceclip", "degla"])
def test_resumed_adapters_and_what_training_carries_beside_them_are_bit_equal(method, tmp_path):
    def make(folder):
        model = add_adapters(make_base(method, tmp_path / f"base-{folder}"), make_arguments())
        extra = {"rank_rule": "fixed"} if method == "ceclip" else {}
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, **extra}
        return make_trainer(method, tmp_path / folder, model, **settings)

    def carried(trainer):
        teacher = trainer.teacher.state_dict() if method == "degla" else {}
        return {**trainer.model.state_dict(), **{f"teacher.{name}": value for name, value in teacher.items()}}

    whole, resumed = make("whole"), make("resumed")
    if method == "ceclip":
        whole.model.rank_threshold.fill_(5.0)  # new ones are 2, and fixed they stay so unless they are read back
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    expected = carried(whole)
    for name, value in carried(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_scale_of_the_base_is_not_clamped_into_another(tmp_path):
    """An adapter does not carry it, so a step that moved it would be lost on loading."""
    model = add_adapters(make_base("negclip", tmp_path / "base"), make_arguments())
    model.logit_scale.data.fill_(4.7)
    make_trainer("negclip", tmp_path / "run", model).train()
    assert model.logit_scale.item() == pytest.approx(4.7)


# Commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base with its processor, and eight captions with their images."""
    place = tmp_path_factory.mktemp("place")
    make_base("degla", place / "base")
    tiny.make_processor().save_pretrained(place / "base")
    rows = tiny.make_rows(8)
    for index, row in enumerate(rows):
        row.pop("image").save(place / f"{index}.png")
    fields = ("caption", "negative_captions", "negative_mask")
    lines = [{"image": f"{index}.png", **{name: row[name] for name in fields}} for index, row in enumerate(rows)]
    (place / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def train_by_command(place, output_dir, batch, *launcher):
    """Two steps of DeGLA with DoRA, as a user starts them."""
    flags = {
        "model": place / "base",
        "train": place / "captions.jsonl",
        "output_dir": output_dir,
        "lora_rank": 2,
        "use_dora": "true",
        "per_device_train_batch_size": batch,
        "max_steps": 2,
        "save_steps": 2,
        "warmup_steps": 0,
        "optim": "sgd",  # linear in the gradient; Adam would turn rounding noise into full steps
        "learning_rate": 0.1,
        "use_cpu": "true",
        "report_to": "none",
    }
    succeed(
        *launcher, "trainers/train_degla.py", *(word for name, value in flags.items() for word in (f"--{name}", value))
    )


@pytest.fixture(scope="module")
def trained(place):
    """Adapters that one process trained."""
    train_by_command(place, place / "one", 8)
    return place / "one"


def test_two_processes_train_adapters_and_teacher_as_one(place, trained, tmp_path):
    train_by_command(place, tmp_path / "two", 4, *TWO_PROCESSES)
    for file in ("adapter_model.safetensors", "checkpoint-2/teacher.safetensors"):
        one, two = load_file(trained / file), load_file(tmp_path / "two" / file)
        assert any("magnitude" in name for name in one)
        assert any(value.any() for name, value in one.items() if "lora_B" in name)
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


def test_merge_command_writes_a_plain_model_with_its_processor(place, trained, tmp_path, capsys):
    merged = merge_adapter.main(["--adapter", str(trained), "--output_dir", str(tmp_path / "merged")])
    assert "a plain DeGLACLIPModel; answers on a fixed input change by" in capsys.readouterr().out
    model, processor = (auto.from_pretrained(tmp_path / "merged") for auto in (AutoModel, AutoProcessor))
    assert type(model) is DeGLACLIPModel
    torch.testing.assert_close(model.state_dict(), merged.state_dict(), rtol=0, atol=0)
    inputs = fixed_inputs(processor)
    adapted = PeftModel.from_pretrained(DeGLACLIPModel.from_pretrained(place / "base"), trained)
    torch.testing.assert_close(answers(model, inputs), answers(adapted, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base"),
        ({"auto_mapping": None}, "auto_mapping names None"),
        ({"auto_mapping": {"base_model_class": "AutoModel", "parent_library": "os"}}, "names 'AutoModel'; accepted"),
    ],
)
def test_an_adapter_that_does_not_say_its_base_is_refused(trained, tmp_path, changed, message):
    config = json.loads((trained / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=message):
        merge_adapter.main(["--adapter", str(tmp_path), "--output_dir", str(tmp_path / "merged")])


def test_an_old_folder_is_never_written_into(trained):
    with pytest.raises(ValueError, match="is not empty"):
        merge_adapter.main(["--adapter", str(trained), "--output_dir", str(trained)])


@pytest.mark.parametrize("method", ["negclip", "cal"])
def test_an_adapter_on_an_adapter_is_refused(method, tmp_path):
    """It would be saved over the first one's base, and the first one would be lost."""
    add_adapters(make_base(method, tmp_path / "base"), make_arguments(adapted=["text"])).save_pretrained(
        tmp_path / "adapter"
    )
    if method == "cal":
        start = ConversationModelArguments(model=str(tmp_path / "adapter"), lora_rank=2)
        begin = partial(start_conversational_model, start, CALArguments(str(tmp_path), use_cpu=True), None)
    else:
        begin = partial(start_model, AutoModel, ModelArguments(model=str(tmp_path / "adapter"), lora_rank=2), seed=0)
    with pytest.raises(ValueError, match=r"adapter is an adapter.*compalign merge --adapter .*adapter --output_dir"):
        begin()


def test_training_in_full_starts_from_the_merged_adapter(tmp_path):
    base = make_base("degla", tmp_path / "base")
    adapted = add_adapters(base, make_arguments())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    started = start_model(DeGLACLIPModel, ModelArguments(model=str(tmp_path / "adapter")), seed=0)
    merged = adapted.merge_and_unload()
    assert type(started) is DeGLACLIPModel
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(started.state_dict()[name], value, msg=name)
