"""Reading the golden fixtures: which cases there are, how exact they are, and how to compare with one."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from compalign.trainers.losses import (
    clip_contrastive,
    image_grounded_contrast,
    self_distillation,
    text_grounded_contrast,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = {case["name"]: case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]}
PRECISIONS = ("float64", "float32")


def names(kind: str) -> list[str]:
    """The cases of one kind, in the manifest's order."""
    return [name for name, case in CASES.items() if case["kind"] == kind]


def load(name: str, precision: str = "float64", prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a case below `prefix`; inputs cast to `precision`, stored results left as they are."""
    tensors = load_file(GOLDEN / CASES[name]["file"])
    tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return {key: value if _is_result(key) else _cast(value, precision) for key, value in tensors.items()}


def split(text_features: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The stored text rows as captions (B, D) and negatives (B, K, D)."""
    return text_features[:batch], text_features[batch:].unflatten(0, (batch, -1))


def assert_matches(name: str, precision: str, actual: Tensor, expected: Tensor, gradient: bool = False) -> None:
    """Compare at the tolerance that the manifest states for this case and precision."""
    tolerance = CASES[name]["tolerance"][precision]
    kind = "grad_" if gradient and "grad_rtol" in tolerance else ""
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=tolerance[f"{kind}rtol"], atol=tolerance[f"{kind}atol"]
    )


def assert_gradients_match(
    name: str, precision: str, value: Tensor, inputs: dict[str, Tensor], expected: dict[str, Tensor], suffix: str
) -> None:
    """Compare the gradients of `value` with the stored `grad_<input><suffix>` of every input."""
    gradients = torch.autograd.grad(value, list(inputs.values()), allow_unused=True, retain_graph=True)
    for (key, tensor), gradient in zip(inputs.items(), gradients, strict=True):
        gradient = torch.zeros_like(tensor) if gradient is None else gradient
        assert_matches(name, precision, gradient, expected[f"grad_{key}{suffix}"], gradient=True)


def degla_terms(flags: dict, tensors: dict, leaves: dict, negatives: str) -> dict[str, tuple[float, Tensor]]:
    """The terms of DeGLA that a case switches on, with their weights."""
    image, scale = leaves["image_features"], leaves["logit_scale"]
    batch = len(image)
    caption, negative = split(leaves["text_features"], batch)
    teacher_caption, _ = split(tensors["teacher_text_features"], batch)
    terms = {"base_loss": (1.0, clip_contrastive(image, caption, scale, negative))}
    if flags.get("text_local_contrast"):
        value = text_grounded_contrast(caption, teacher_caption, negative, negatives=negatives)
        terms["text_local_loss"] = (flags["text_local_weight"], value)
    if flags.get("image_local_contrast"):
        value = image_grounded_contrast(image, caption, negative, scale)
        terms["image_local_loss"] = (flags["image_local_weight"], value)
    if flags.get("distill_weight"):
        value = self_distillation(image, tensors["teacher_image_features"])
        value = value + self_distillation(leaves["text_features"], tensors["teacher_text_features"])
        terms["distill_loss"] = (flags["distill_weight"], value)
    return terms


def calls(name: str) -> Iterator[str]:
    """The prefixes of a case's consecutive calls."""
    return (f"call{number}." for number in range(CASES[name].get("calls", 3)))


def _is_result(key: str) -> bool:
    return key.endswith(("_official", "_official_f32", "_paper")) or "_official_at_" in key


def _cast(value: Tensor, precision: str) -> Tensor:
    return value.to(getattr(torch, precision)) if value.is_floating_point() else value
