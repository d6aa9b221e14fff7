"""Mixes of two models: exact at both ends, linear between, and refused where no mix is a model."""

import copy

import pytest
import torch
from PIL import Image

from compalign.evaluation import SceneComposition, SceneZeroShot, evaluate_model
from compalign.evaluation.beside.interpolation import evaluate_interpolations, interpolate, plot_interpolations


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(3, 4, generator=generator).to(dtype), "b": torch.randn((), generator=generator).to(dtype)}


def test_a_mix_is_the_linear_combination():
    mixed = interpolate({"w": torch.tensor([0.0, 8.0])}, {"w": torch.tensor([4.0, 0.0])}, 0.25)
    assert mixed["w"].tolist() == [1.0, 6.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_ends_are_exact_and_the_kind_is_the_tuned_models(dtype):
    base, tuned = state(0, dtype), state(1, dtype)
    for alpha, end in ((0, base), (1, tuned)):
        mixed = interpolate(base, tuned, alpha)
        assert all(torch.equal(mixed[name], end[name]) and mixed[name].dtype == dtype for name in end)


def test_half_precision_is_widened_before_it_is_mixed():
    """In bfloat16, 1 + 0.5 * (1.0078125 - 1) is 1; from 256 to 258 the half way is lost."""
    low, high = torch.tensor([256.0]), torch.tensor([258.0])
    mixed = interpolate({"w": low.bfloat16()}, {"w": high.float()}, 0.5)["w"]
    assert mixed.tolist() == [257.0]


def test_neither_state_is_changed_nor_shared():
    base, tuned = state(0), state(1)
    before = copy.deepcopy((base, tuned))
    for alpha in (0, 0.5, 1):
        for value in interpolate(base, tuned, alpha).values():
            value.zero_()
    assert all(
        torch.equal(now[name], then[name]) for now, then in zip((base, tuned), before, strict=True) for name in now
    )


@pytest.mark.parametrize(
    ("base", "tuned", "alpha", "message"),
    [
        (state(0), state(1), 1.5, "alpha 1.5"),
        (state(0), {"a": torch.zeros(3, 4)}, 0.5, "1 weights are in one model only, such as b"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, 0.5, r"\(2,\).*\(3,\)"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.long)}, 0.5, "int64"),
    ],
)
def test_what_cannot_be_mixed_is_refused(base, tuned, alpha, message):
    with pytest.raises(ValueError, match=message):
        interpolate(base, tuned, alpha)


@pytest.fixture
def tuned(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return other


def test_the_end_points_score_as_the_models_do(model, tuned, processor, tmp_path):
    benchmarks = [SceneComposition(count=4), SceneZeroShot(count=16)]
    before = copy.deepcopy([model.state_dict(), tuned.state_dict()])
    mixes = evaluate_interpolations(model, tuned, processor, benchmarks, [1, 0, 0.5], progress=False)
    assert list(mixes) == [0, 0.5, 1]
    assert [mix.model for mix in mixes.values()] == ["alpha 0", "alpha 0.5", "alpha 1"]
    for alpha, end in ((0, model), (1, tuned)):
        assert mixes[alpha].metrics == evaluate_model(end, processor, benchmarks, progress=False).metrics
    for end, then in zip((model, tuned), before, strict=True):
        assert all(torch.equal(value, then[name]) for name, value in end.state_dict().items())
    plot_interpolations(mixes, tmp_path / "mixes.png")
    with Image.open(tmp_path / "mixes.png") as image:
        assert image.format == "PNG"
    (axes,) = plot_interpolations(mixes).axes
    assert axes.get_xlabel() == "recognition: scenes_zero_shot/top1, %"


def test_models_of_different_activations_are_no_pair(model, tuned, processor):
    tuned.config.vision_config.hidden_act = "gelu"
    with pytest.raises(ValueError, match="base has activation quick_gelu and the tuned model gelu"):
        evaluate_interpolations(model, tuned, processor, [SceneZeroShot(count=16)], [0.5])


@pytest.mark.parametrize("alphas", [[], [0.5, 0.5]])
def test_alphas_are_needed_once_each(model, tuned, processor, alphas):
    with pytest.raises(ValueError, match="each only once"):
        evaluate_interpolations(model, tuned, processor, [SceneZeroShot(count=16)], alphas)
