"""CAL's steps with the contrast pass against plain ones, and the memory of its loss.

All figures come from one run. Within a ratio the kinds of step take turns.
"""

import statistics
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedModel,
)

from ...data.chat import IGNORED_LABEL
from ...modeling.kinds import default_device
from ...trainers.cal import label_deltas, weighted_cross_entropy
from ...trainers.cal_contrast import watched_forward
from ...trainers.cal_head import chunked_cross_entropy_sum
from ...trainers.losses import EPSILON, visual_token_weights, weighted_next_token_loss
from . import CALSpeedArguments
from .timing import report_figures, timed

IMAGE_TOKEN = 3
PROMPT, ANSWER = 64, 128  # tokens of text before the answer, and supervised ones
SHAPES = {"LLaVA-1.5, 576 image tokens": 576, "LLaVA-NeXT, 2,928 image tokens": 2928}
NARROW = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 4, "num_attention_heads": 8}
WIDE = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
NARROW_TOWER = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
WIDE_TOWER = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
MODES = ("plain", "dropped", "masked")


def run(args: CALSpeedArguments) -> dict[str, float]:
    """Measure, print, write."""
    device = default_device()
    figures = {}
    for name, image_tokens in SHAPES.items():
        figures |= {f"{name}: {line}": value for line, value in measure(image_tokens, args, device).items()}
    figures |= {f"7B by FLOPs, {line}": value for line, value in full_size().items()}
    figures |= {f"loss of 4 x 1,024 tokens, {form}, peak MiB": value for form, value in loss_peaks(device).items()}
    report_figures(figures, f"{'7B' if args.wide else 'narrow'}, batch {args.batch}", args.output_dir)
    return figures


def measure(image_tokens: int, args: CALSpeedArguments, device: torch.device) -> dict[str, float]:
    """Measure the time and the operations of a step with and without the contrast pass, at one shape."""
    model = make_model(image_tokens, args.wide).to(device)
    batch = {key: value.to(device) for key, value in make_batch(args.batch, image_tokens, model).items()}
    times = alternate({mode: partial(step, model, batch, mode) for mode in MODES}, args.repeats)
    flops = {mode: count_flops(model, batch, mode) for mode in MODES}
    figures = {"plain step, s": times["plain"]}
    for mode in MODES[1:]:
        figures[f"step, {mode} / plain"] = times[mode] / times["plain"]
        figures[f"FLOPs, {mode} / plain"] = flops[mode] / flops["plain"]
        figures[f"contrast pass, {mode}, GFLOPs"] = (flops[mode] - flops["plain"]) / 1e9
    return figures | {"contrast pass by formula, GFLOPs": dropped_formula(model, args.batch) / 1e9}


def make_model(image_tokens: int, wide: bool) -> PreTrainedModel:
    """Make a LLaVA (576 image tokens) or a LLaVA-NeXT (2,928) with random weights."""
    vision = CLIPVisionConfig(image_size=336, patch_size=14, **(WIDE_TOWER if wide else NARROW_TOWER))
    text = LlamaConfig(vocab_size=32064, max_position_embeddings=4096, **(WIDE if wide else NARROW))
    common = {"vision_config": vision, "text_config": text, "image_token_index": IMAGE_TOKEN}
    torch.manual_seed(0)
    if image_tokens == SHAPES["LLaVA-1.5, 576 image tokens"]:
        model = LlavaForConditionalGeneration(LlavaConfig(**common))
    else:
        model = LlavaNextForConditionalGeneration(LlavaNextConfig(image_grid_pinpoints=[[672, 672]], **common))
    model.get_encoder("image").requires_grad_(False)
    return (model.bfloat16() if wide else model).train()


def make_batch(rows: int, image_tokens: int, model: PreTrainedModel) -> dict[str, Tensor]:
    """Make rows of an image, a prompt and an answer."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(10, 32000, (rows, PROMPT + ANSWER), generator=generator)
    image = torch.full((rows, image_tokens), IMAGE_TOKEN)
    ids = torch.cat([text[:, :1], image, text[:, 1:]], dim=1)
    labels = ids.clone()
    labels[:, :-ANSWER] = IGNORED_LABEL
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    tiles = (5,) if image_tokens > 576 else ()
    batch["pixel_values"] = torch.randn(rows, *tiles, 3, 336, 336, generator=generator).to(model.dtype)
    if tiles:
        batch["image_sizes"] = torch.tensor([[672, 672]] * rows)
    return batch


def step(model: PreTrainedModel, batch: dict[str, Tensor], mode: str) -> None:
    """Run one batch forward and backward; the optimizer's part is the same in every mode."""
    model.zero_grad(set_to_none=True)
    loss(model, batch, mode).backward()


def loss(model: PreTrainedModel, batch: dict[str, Tensor], mode: str) -> Tensor:
    """Return the trainer's loss: plain, or with weights from the contrast pass of a mode."""
    inputs = dict(batch)
    labels = inputs.pop("labels")
    _, call = watched_forward(model, model, inputs)
    supervised = labels[:, 1:] != IGNORED_LABEL
    weights = supervised.float()
    if mode != "plain":
        weights = visual_token_weights(label_deltas(model, inputs, labels, call, mode), supervised)
    total, weight_sum = weighted_cross_entropy(model, call, labels, weights)
    return total / (weight_sum + EPSILON)


def alternate(kinds: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each kind of run. The kinds take turns, after one round that warms up."""
    rounds = [{name: timed(run) for name, run in kinds.items()} for _ in range(repeats + 1)]
    return {name: statistics.median(times[name] for times in rounds[1:]) for name in kinds}


def count_flops(model: PreTrainedModel, batch: dict[str, Tensor], mode: str) -> int:
    """Count the operations of the matrix products of one step, forward and backward; on a CPU without attention."""
    with FlopCounterMode(display=False) as counter:
        step(model, batch, mode)
    return counter.get_total_flops()


def dropped_formula(model: PreTrainedModel, rows: int) -> float:
    """Compute the operations of the dropped pass, which sees the text alone.

    They are 2 per weight and token, and 4 T^2 H per layer for attention.
    """
    config, tokens = model.config.text_config, PROMPT + ANSWER
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    attention = 4 * tokens**2 * config.hidden_size
    return rows * config.num_hidden_layers * (2 * tokens * layer + attention)


def full_size() -> dict[str, float]:
    """Count what the contrast pass adds to a training step at the widths of 7B, on tensors without storage.

    The step is a forward and a backward of the language model in bfloat16 without gradient checkpointing, a forward of
    the vision tower, and the head's three products at the supervised tokens.
    """
    with torch.device("meta"):
        language = LlamaModel(LlamaConfig(vocab_size=32064, max_position_embeddings=4096, **WIDE)).bfloat16()
        tower = CLIPVisionModel(CLIPVisionConfig(image_size=336, patch_size=14, **WIDE_TOWER))
        with FlopCounterMode(display=False) as counter:
            tower(torch.empty(1, 3, 336, 336))
    parameters = sum(parameter.numel() for parameter in language.parameters())
    head = 3 * 2 * ANSWER * WIDE["hidden_size"] * 32064
    text, _ = meta_pass(language, PROMPT + ANSWER, trained=False)
    figures = {
        "language model, billions of parameters": parameters / 1e9,
        # Two bytes each for the weight and its gradient; four for the master weight and both of AdamW's moments.
        "weights, gradients and AdamW, GiB": parameters * (2 + 2 + 3 * 4) / 2**30,
    }
    for name, image_tokens in SHAPES.items():
        tokens, tiles = image_tokens + PROMPT + ANSWER, 5 if image_tokens > 576 else 1
        trained, saved = meta_pass(language, tokens, trained=True)
        masked, _ = meta_pass(language, tokens, trained=False)
        plain = trained + head + tiles * counter.get_total_flops()
        figures[f"{name}: dropped pass / plain step"] = text / plain
        figures[f"{name}: masked pass / plain step"] = masked / plain
        figures[f"{name}: kept for the backward pass, GiB per row"] = saved / 2**30
    return figures


def meta_pass(language: LlamaModel, tokens: int, trained: bool) -> tuple[int, int]:
    """Count the operations of one pass of a language model, and the bytes kept for its backward pass.

    The model is on the meta device. The contrast pass, which is not trained, keeps nothing.
    """
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in language.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    embeddings = torch.empty(1, tokens, language.config.hidden_size, device="meta", dtype=torch.bfloat16)
    # A whole mask is taken as it is; anything else would be looked at, and there is nothing to look at.
    mask = torch.empty(1, 1, tokens, tokens, device="meta", dtype=torch.bfloat16)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(trained):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            states = language(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state
        if trained:
            states.backward(torch.empty_like(states))
    return counter.get_total_flops(), sum(kept.values())


def loss_peaks(device: torch.device) -> dict[str, float]:
    """Return the peak memory in MiB of the weighted loss and its gradients, in the plain and the chunked form."""
    forms = {"all logits at once": plain_loss, "chunked": chunked_loss}
    return {name: peak_mebibytes(run, device) for name, run in forms.items()}


def loss_inputs(device: torch.device) -> tuple[torch.nn.Linear, Tensor, Tensor, Tensor]:
    """Make a head of LLaVA's vocabulary, hidden states, labels and weights."""
    head = torch.nn.Linear(512, 32064, bias=False, device=device)
    hidden = torch.randn(4, 1025, 512, device=device, requires_grad=True)
    return head, hidden, torch.randint(32064, (4, 1025), device=device), torch.ones(4, 1024, device=device)


def plain_loss(device: torch.device) -> None:
    """Run the loss forward and backward with all logits at once."""
    head, hidden, labels, weights = loss_inputs(device)
    weighted_next_token_loss(head(hidden), labels, weights).backward()


def chunked_loss(device: torch.device) -> None:
    """Run the loss forward and backward chunk by chunk."""
    head, hidden, labels, weights = loss_inputs(device)
    states, target = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    (chunked_cross_entropy_sum(head, states, target, weights.flatten()) / weights.sum()).backward()


def peak_mebibytes(run: Callable[[torch.device], None], device: torch.device) -> float:
    """Return the most memory that a run adds: on the GPU, or, on Linux, resident in a process of its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_added_resident, (run, device))


def _added_resident(run: Callable[[torch.device], None], device: torch.device) -> float:
    """Return the MiB of resident memory that a run adds to this process."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak of the imports
    before = _resident("VmRSS")
    run(device)
    return (_resident("VmHWM") - before) / 2**10


def _resident(field: str) -> int:
    """Return a line of this process's memory status, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])
