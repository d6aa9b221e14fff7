"""Weight interpolation between a model and what was fine-tuned from it: the whole trade-off from one training."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from .benchmarks import Benchmark
from .evaluator import evaluate_model
from .report import PALETTE, error_bar
from .results import Results


def interpolate(base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Mix two sets of weights, (1 - alpha) * base + alpha * tuned.

    The mix is computed in float32 at least and is exact at both ends.

    Args:
        base_state, tuned_state (mapping of `str` to `torch.Tensor`): Floating-point weights of the same names and
            shapes.
        alpha (`float`): Share of the tuned weights, in [0, 1].

    Returns:
        `dict[str, torch.Tensor]`: new tensors with the data types and on the devices of `tuned_state`.

    Raises:
        ValueError: If alpha is outside [0, 1], or names, shapes or kinds differ.

    Reference:
        WiSE-FT, https://huggingface.co/papers/2109.01903
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha}; must be in [0, 1]")
    if unpaired := sorted(base_state.keys() ^ tuned_state.keys()):
        raise ValueError(f"{len(unpaired)} weights are in one model only, such as {', '.join(unpaired[:3])}")
    mixed = {}
    for name, tuned in tuned_state.items():
        base = base_state[name]
        if base.shape != tuned.shape or not (base.is_floating_point() and tuned.is_floating_point()):
            raise ValueError(
                f"{name}: {base.dtype} of {tuple(base.shape)} and {tuned.dtype} of {tuple(tuned.shape)}; must be "
                "floating-point weights of one shape"
            )
        wide = torch.promote_types(tuned.dtype, torch.float32)
        mixed[name] = torch.lerp(base.to(tuned.device, wide), tuned.to(wide), alpha).to(tuned.dtype)
    return mixed


def evaluate_interpolations(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    alphas: Sequence[float],
    **options: Any,
) -> dict[float, Results]:
    """Evaluate mixes of two models.

    Parameters are mixed; buffers, which hold the state of training such as CE-CLIP's thresholds, stay the tuned
    model's. Neither model is changed.

    Args:
        base (`PreTrainedModel`): The model that training started from.
        tuned (`PreTrainedModel`): What came out, on the device to evaluate on.
        processor (`ProcessorMixin`): Of both.
        benchmarks (sequence of `str` or `Benchmark`): As for `evaluate_model`.
        alphas (sequence of `float`): Shares of the tuned weights, in [0, 1]; different ones.
        options: For `evaluate_model`.

    Returns:
        `dict[float, Results]`: by alpha, in rising order; the models are named `alpha 0.25`.

    Raises:
        ValueError: If there is no alpha or one repeats, the activations differ, or as for `interpolate`.
    """
    if not alphas or len(set(alphas)) < len(alphas):
        raise ValueError(f"alphas {list(alphas)}; needs at least one, and each once")
    for tower in ("text_config", "vision_config"):
        activations = [getattr(model.config, tower).to_dict().get("hidden_act") for model in (base, tuned)]
        if len(set(activations)) > 1:
            raise ValueError(
                f"{tower}: base has activation {activations[0]}, tuned {activations[1]}: no mix is a model"
            )
    states = [{name: value.detach() for name, value in model.named_parameters()} for model in (base, tuned)]
    mixed = copy.deepcopy(tuned)
    results = {}
    for alpha in sorted(alphas):
        mixed.load_state_dict(mixed.state_dict() | interpolate(*states, alpha))
        results[alpha] = evaluate_model(mixed, processor, benchmarks, name=f"alpha {alpha:g}", **options)
    return results


def plot_interpolations(
    results: Mapping[float, Results],
    path: str | Path,
    composition: str = "scenes_composition/all_macro",
    retention: str = "scenes_zero_shot/top1",
) -> None:
    """Draw composition against retention over the mixes to a PNG file, each point with its alpha.

    Args:
        results (mapping of `float` to `Results`): By alpha, in the order to be joined.
        path (`str` or `Path`): PNG file to write.
        composition, retention (`str`): `"benchmark/score"`.

    Raises:
        ValueError: If results lack one of the scores.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained", dpi=150)
    axes = figure.subplots()
    points = [(alpha, model.find(retention), model.find(composition)) for alpha, model in results.items()]
    axes.plot([100 * x.value for _, x, _ in points], [100 * y.value for _, _, y in points], color=PALETTE[0], lw=1.5)
    for alpha, x, y in points:
        place = (100 * x.value, 100 * y.value)
        bars = {"xerr": error_bar(x), "yerr": error_bar(y), "elinewidth": 0.7, "ecolor": "0.75"}
        axes.errorbar(*place, fmt="o", color=PALETTE[0], ms=7, **bars)
        axes.annotate(f"{alpha:g}", place, (7, 7), textcoords="offset points", fontsize=9, fontweight="bold")
    axes.set(xlabel=f"kept: {retention}, %", ylabel=f"composition: {composition}, %")
    axes.set_title("Base (0) to fine-tuned (1) weights, by share of the fine-tuned", loc="left", fontsize=11)
    axes.margins(0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")
