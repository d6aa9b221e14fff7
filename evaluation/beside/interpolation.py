"""Weight interpolation between a base model and its fine-tuned version: the whole trade-off from one training run."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from ..benchmarks import Benchmark
from ..evaluator import evaluate_model
from ..report import COMPOSITION, PALETTE, RETENTION, error_bar, saved
from ..results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def interpolate(base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Mix two sets of weights, (1 - alpha) * base + alpha * tuned.

    The mix is computed in at least float32 and is exact at both ends.

    Args:
        base_state, tuned_state (mapping of `str` to `torch.Tensor`): Floating-point weights with the same names and
            shapes.
        alpha (`float`): Share of the fine-tuned weights, in [0, 1].

    Returns:
        `dict[str, torch.Tensor]`: new tensors with the data types and devices of `tuned_state`.

    Raises:
        ValueError: If alpha is outside [0, 1], names or shapes differ, or weights are not floating-point.

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
                "floating-point weights of the same shape"
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

    Parameters are mixed. Buffers, which hold training state such as CE-CLIP's thresholds, are the fine-tuned model's.
    Both models stay as they are.

    Args:
        base (`PreTrainedModel`): The model before fine-tuning.
        tuned (`PreTrainedModel`): The fine-tuned model, on the device to evaluate on.
        processor (`ProcessorMixin`): Processor of both models.
        benchmarks (sequence of `str` or `Benchmark`): As in `evaluate_model`.
        alphas (sequence of `float`): Shares of the fine-tuned weights, in [0, 1]; all different.
        options: Further arguments of `evaluate_model`.

    Returns:
        `dict[float, Results]`: by alpha, in ascending order. The models are named `alpha 0.25` and so on.

    Raises:
        ValueError: If there is no alpha or two are equal, the activations differ, or as in `interpolate` and
            `evaluate_model`.
    """
    if not alphas or len(set(alphas)) < len(alphas):
        raise ValueError(f"alphas {list(alphas)}; needs at least one, and each only once")
    for tower in ("text_config", "vision_config"):
        activations = [getattr(model.config, tower).to_dict().get("hidden_act") for model in (base, tuned)]
        if len(set(activations)) > 1:
            raise ValueError(
                f"{tower}: the base has activation {activations[0]} and the tuned model {activations[1]}; mixed "
                "weights would be meaningless"
            )
    base_state, tuned_state = (
        {name: value.detach() for name, value in model.named_parameters()} for model in (base, tuned)
    )
    mixed = copy.deepcopy(tuned)
    results = {}
    for alpha in sorted(alphas):
        mixed.load_state_dict(mixed.state_dict() | interpolate(base_state, tuned_state, alpha))
        results[alpha] = evaluate_model(mixed, processor, benchmarks, name=f"alpha {alpha:g}", **options)
    return results


def plot_interpolations(
    results: Mapping[float, Results],
    path: str | Path | None = None,
    composition: str = COMPOSITION,
    retention: str = RETENTION,
) -> "Figure":
    """Draw composition against recognition over the mixes, with the alpha of each point.

    Args:
        results (mapping of `float` to `Results`): Results by alpha, in the order in which a line joins them.
        path (`str` or `Path`, *optional*): PNG file to write.
        composition, retention (`str`): Scores to draw: `"benchmark/score"`.

    Returns:
        `matplotlib.figure.Figure`

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
        bars: dict[str, Any] = {"xerr": error_bar(x), "yerr": error_bar(y), "elinewidth": 0.7, "ecolor": "0.75"}
        axes.errorbar(*place, fmt="o", color=PALETTE[0], ms=7, **bars)
        axes.annotate(f"{alpha:g}", place, (7, 7), textcoords="offset points", fontsize=9, fontweight="bold")
    axes.set(xlabel=f"recognition: {retention}, %", ylabel=f"composition: {composition}, %")
    axes.set_title("Mixes of base (0) and fine-tuned (1) weights", loc="left", fontsize=11)
    axes.margins(0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return saved(figure, path)
