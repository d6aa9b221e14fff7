"""The fast paths of training against the plain ones: steps of DeGLA, updates of its teacher, scenes."""

import tempfile
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, default_data_collator

from ...data.scenes import generate_scene, render
from ...modeling import DeGLACLIPModel
from ...modeling.kinds import default_device
from ...trainers import DeGLAArguments, DeGLATrainer
from ...trainers.degla import ema_update, make_teacher
from ...trainers.launch.run import peak_memory_bytes
from . import TrainingSpeedArguments
from .timing import best_of, report_figures

# Tokens of SugarCrepe's captions with both ends: mean 14.9, and a tail that reaches about 40 in a batch.
LENGTHS = (9, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 17, 18, 20, 22, 25, 30, 39)
CONTEXT_LENGTH = 77
NUM_NEGATIVES = 4
SCENES = 2000


def run(args: TrainingSpeedArguments) -> dict[str, float]:
    """Measure, print, write."""
    device = default_device()
    figures = {"scenes per second, one core, 64 px": SCENES / best_of(args.repeats, draw_scenes)}
    figures |= {f"DeGLA step, {name}, s": value for name, value in degla_steps(args, device).items()}
    figures |= {f"teacher update, {name}, s": value for name, value in teacher_updates(args, device).items()}
    figures["peak memory, GiB"] = peak_memory_bytes() / 2**30
    report_figures(figures, f"{'tiny' if args.tiny else 'ViT-B/32'}, batch {args.batch}", args.output_dir)
    return figures


def draw_scenes() -> None:
    """Generate and render scenes, as the trainers' loaders do."""
    for seed in range(SCENES):
        render(generate_scene(seed))


def degla_steps(args: TrainingSpeedArguments, device: torch.device) -> dict[str, float]:
    """Time one optimizer step: texts padded to the context length, trimmed to the longest, grouped by length."""
    padded = make_batch(args.batch, CONTEXT_LENGTH, image_size=32 if args.tiny else 224)
    trimmed = padded | {key: padded[key][:, : max(LENGTHS)] for key in ("input_ids", "attention_mask")}
    forms = {
        f"padded to {CONTEXT_LENGTH}": (CLIPModel, padded),
        "trimmed to the longest": (CLIPModel, trimmed),
        "trimmed, grouped by length": (DeGLACLIPModel, trimmed),
    }
    return {name: time_step(args, kind, batch, device) for name, (kind, batch) in forms.items()}


def time_step(args: TrainingSpeedArguments, model_class: type, batch: dict[str, Tensor], device: torch.device) -> float:
    """Return the seconds of one DeGLA step, teacher and optimizer included."""
    batch = {key: value.to(device) for key, value in batch.items()}
    model = model_class(make_config(model_class, args.tiny)).to(device)
    with tempfile.TemporaryDirectory() as folder:  # a Trainer makes its output folder, and nothing is written into it
        training = DeGLAArguments(folder, use_cpu=device.type == "cpu", report_to=[], disable_tqdm=True)
        # The batch exists already, so the collator is never called.
        trainer = DeGLATrainer(model, training, data_collator=default_data_collator)
    optimizer = trainer.create_optimizer()

    def step() -> None:
        trainer.compute_loss(trainer.model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        trainer.after_optimizer_step()

    return best_of(args.repeats, step)


def teacher_updates(args: TrainingSpeedArguments, device: torch.device) -> dict[str, float]:
    """Time the moving average as one fused operation, and as a loop over parameters."""
    student = CLIPModel(make_config(CLIPModel, args.tiny)).to(device)
    teacher = make_teacher(student)
    averages, values = list(teacher.parameters()), list(student.parameters())

    @torch.no_grad()
    def loop() -> None:
        for average, value in zip(averages, values, strict=True):
            average.copy_(0.9996 * average + 0.0004 * value)

    return {
        "loop": best_of(args.repeats, loop),
        "fused": best_of(args.repeats, lambda: ema_update(averages, values, 0.9996)),
    }


def make_batch(rows: int, length: int, image_size: int) -> dict[str, Tensor]:
    """Make random pixels, and captions whose lengths are those of SugarCrepe."""
    texts = rows * (1 + NUM_NEGATIVES)
    lengths = torch.tensor([LENGTHS[index % len(LENGTHS)] for index in range(texts)])
    position, end = torch.arange(length), CLIPConfig().text_config.eos_token_id
    ids = torch.randint(1, 500, (texts, length)).masked_fill(position >= lengths[:, None] - 1, end)
    return {
        "pixel_values": torch.randn(rows, 3, image_size, image_size),
        "input_ids": ids,
        "attention_mask": (position < lengths[:, None]).long(),
        "negative_mask": torch.ones(rows, NUM_NEGATIVES, dtype=torch.long),
        "row": torch.arange(rows),
    }


def make_config(model_class: Any, tiny: bool) -> CLIPConfig:
    """Return the configuration of ViT-B/32, which is CLIP's default, or one of two narrow layers."""
    if not tiny:
        return model_class.config_class()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return model_class.config_class(text_config=tower, vision_config={**tower, "image_size": 32, "patch_size": 16})
