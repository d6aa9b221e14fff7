"""Shared by all conversions: the record of a conversion, and the comparison with a reference."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from ...data.provenance import versions
from ...modeling.conversion import Checkpoint, Plan, sha256
from .arguments import ConvertArguments

RECORD = "conversion.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: If the file holds anything else; the message names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def read_if_there(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is no such file."""
    return read_json(path) if path.is_file() else {}


def left_out(source: Checkpoint, plan: Plan) -> list[str]:
    """Return the names of the tensors that a plan does not use."""
    used = {name for recipe in plan.values() for name in recipe.sources}
    return [name for name in source.places if name not in used]


def empty_model(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """Make a model without weights, to ask it for shapes and to save its configuration."""
    with torch.device("meta"):
        return model_class(config)


def compare(
    args: ConvertArguments,
    model_class: type[PreTrainedModel],
    configs: dict[str, PretrainedConfig],
    differences: Callable[[nn.Module, dict[str, Tensor]], dict[str, float]],
) -> tuple[str, dict[str, float]]:
    """Compare the written weights, under each configuration, with the reference, and find the one that agrees.

    Args:
        args (`ConvertArguments`): Names the reference and the tolerance.
        model_class (`type`): Class of the result.
        configs (`dict[str, PretrainedConfig]`): Candidates, by the names that errors and the record use.
        differences (`Callable`): Computes the largest difference of each output.

    Returns:
        `tuple`: the name of the only configuration within the tolerance, and its differences.

    Raises:
        ValueError: If no configuration agrees, or several do.
    """
    reference = load_file(args.reference)
    found = {}
    for name, config in configs.items():
        # Without generation settings given, they would be looked for beside the weights, where they are not yet.
        model = model_class.from_pretrained(
            args.folder, config=config, dtype=torch.float32, generation_config=GenerationConfig()
        ).eval()
        found[name] = differences(model, reference)
        for output, difference in found[name].items():
            print(f"{name}: {output} differs from the reference by {difference:.2e} at most")
    agreeing = [name for name, values in found.items() if max(values.values()) <= args.tolerance]
    if len(agreeing) != 1:
        raise ValueError(
            f"{args.reference}: {', '.join(agreeing) or 'no result'} of {', '.join(configs)} agrees within tolerance="
            f"{args.tolerance}; the weights in {args.folder} were left without a configuration"
        )
    return agreeing[0], found[agreeing[0]]


def write_record(args: ConvertArguments, files: Sequence[Path], facts: dict[str, Any]) -> None:
    """Write where the result came from and what was decided."""
    record = {
        "source": {path.name: sha256(path) for path in files},
        "original": args.original,
        **facts,
        "versions": versions("compalign", "transformers", "torch", "safetensors"),
    }
    (args.folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
