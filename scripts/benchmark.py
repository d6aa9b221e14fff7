"""Measure what the fast paths gain over the plain ones, on this machine.

    compalign benchmark
    compalign benchmark --batch 64 --repeats 10 --output_dir benchmarks

Each line is the best of several repeats. Random weights and tokens: speed does not depend on them.
"""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, default_data_collator

from ..data.scenes import generate_scene, render
from ..modeling import DeGLACLIPModel
from ..trainers import DeGLAArguments, DeGLATrainer
from ..trainers.ema import ema_update, make_teacher
from ..trainers.entry import peak_memory_bytes
from ..trainers.recipe import parse_recipe

# Tokens of SugarCrepe's captions with both ends: mean 14.9, and a tail that reaches about 40 in a batch.
LENGTHS = (9, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 17, 18, 20, 22, 25, 30, 39)
CONTEXT_LENGTH = 77
NUM_NEGATIVES = 4
SCENES = 2000


@dataclass
class BenchmarkArguments:
    """How much to measure."""

    batch: int = field(default=8, metadata={"help": "Rows a step; each has four negatives."})
    repeats: int = field(default=3, metadata={"help": "Measurements of a line; the best counts."})
    tiny: bool = field(default=False, metadata={"help": "Two narrow layers instead of ViT-B/32, to try the command."})
    output_dir: str | None = field(default=None, metadata={"help": "Folder for benchmark.json; default: print only."})


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measure, print, write."""
    (args,) = parse_recipe(BenchmarkArguments, arguments=arguments, description=__doc__)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = {"scenes a second, one core, 64 px": SCENES / best_of(args.repeats, draw_scenes)}
    figures |= {f"DeGLA step, {name}, s": value for name, value in degla_steps(args, device).items()}
    figures |= {f"teacher update, {name}, s": value for name, value in teacher_updates(args, device).items()}
    figures["peak memory, GiB"] = peak_memory_bytes() / 2**30
    publish(figures, f"{'tiny' if args.tiny else 'ViT-B/32'}, batch {args.batch}", args.output_dir)
    return figures


def publish(figures: dict[str, float], shape: str, output_dir: str | None) -> None:
    """Print figures under the machine and the versions that they belong to; write them where a folder is given."""
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    setting = f"{machine}, {torch.get_num_threads()} threads, torch {version('torch')}, "
    setting += f"transformers {version('transformers')}, {shape}"
    width = 2 + max(map(len, figures))
    print("\n".join([setting, *(f"{name:<{width}}{value:>12.4g}" for name, value in figures.items())]))
    if output_dir is not None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "benchmark.json").write_text(json.dumps({"setting": setting, "figures": figures}, indent=1) + "\n")


def timed(run: Callable[[], None]) -> float:
    """Wall time of a run in seconds, with all that it has started on a GPU."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_of(repeats: int, run: Callable[[], None]) -> float:
    """Shortest wall time of a run in seconds, after one that warms up."""
    return min([timed(run) for _ in range(repeats + 1)][1:])


def draw_scenes() -> None:
    """Generate and render scenes, as the trainers' loaders do."""
    for seed in range(SCENES):
        render(generate_scene(seed))


def degla_steps(args: BenchmarkArguments, device: torch.device) -> dict[str, float]:
    """One optimizer step: texts padded to the context length, trimmed to the longest, and in groups of like length."""
    padded = make_batch(args.batch, CONTEXT_LENGTH, image_size=32 if args.tiny else 224)
    trimmed = padded | {key: padded[key][:, : max(LENGTHS)] for key in ("input_ids", "attention_mask")}
    forms = {
        f"padded to {CONTEXT_LENGTH}": (CLIPModel, padded),
        "trimmed to the longest": (CLIPModel, trimmed),
        "trimmed, grouped by length": (DeGLACLIPModel, trimmed),
    }
    return {name: time_step(args, kind, batch, device) for name, (kind, batch) in forms.items()}


def time_step(args: BenchmarkArguments, model_class: type, batch: dict[str, Tensor], device: torch.device) -> float:
    """Seconds of one DeGLA step, teacher and optimizer included."""
    batch = {key: value.to(device) for key, value in batch.items()}
    training = DeGLAArguments("unused", use_cpu=device.type == "cpu", report_to=[], disable_tqdm=True)
    # The batch is made already, so the collator is never called.
    model = model_class(make_config(model_class, args.tiny)).to(device)
    trainer = DeGLATrainer(model, training, data_collator=default_data_collator)
    optimizer = trainer.create_optimizer()

    def step() -> None:
        trainer.compute_loss(trainer.model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        trainer.after_optimizer_step()

    return best_of(args.repeats, step)


def teacher_updates(args: BenchmarkArguments, device: torch.device) -> dict[str, float]:
    """The moving average as one fused operation, and as a loop over parameters."""
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
    """Random pixels, and captions whose lengths are those of SugarCrepe."""
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


def make_config(model_class: type, tiny: bool) -> CLIPConfig:
    """ViT-B/32, which is the default of CLIP's configuration, or something that runs at once."""
    if not tiny:
        return model_class.config_class()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return model_class.config_class(text_config=tower, vision_config={**tower, "image_size": 32, "patch_size": 16})
