"""What the conversions share: their arguments, the record of a conversion, and the comparison with a reference."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from ..modeling.conversion import Checkpoint, Plan, sha256

RECORD = "conversion.json"


@dataclass
class ConvertArguments:
    """What to convert, into what, and what the checkpoint itself does not tell."""

    source: str = field(
        metadata={"help": "Checkpoint: a .safetensors, .pt or .bin file, or a folder with one or shards."}
    )
    output_dir: str = field(metadata={"help": "New folder for the result."})
    to: Literal["transformers", "open_clip", "released"] = field(
        default="transformers", metadata={"help": "Layout to write. The last two are one: that of the original code."}
    )
    kind: Literal["clip", "degla_clip", "ce_clip", "llava_cal", "llava_next_cal", "comalign"] | None = field(
        default=None, metadata={"help": "Model to make. Needed where the tensors' names leave a choice."}
    )
    activation: Literal["quick_gelu", "gelu"] | None = field(
        default=None, metadata={"help": "Activation of CLIP. Needed where neither a name nor a reference tells it."}
    )
    vision_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of the image tower. Default: by its width, 64 a head."}
    )
    text_heads: int | None = field(default=None, metadata={"help": "The same for the text tower."})
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "Original configuration: open_clip_config.json or LLaVA's config.json. Default: beside source."
        },
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Resize CLIP's position embeddings to images of this side in pixels."}
    )
    num_negatives: int = field(default=4, metadata={"help": "Thresholds of ce_clip."})
    bpe: str | None = field(
        default=None, metadata={"help": "OpenAI's bpe_simple_vocab_16e6.txt.gz, for CLIP's tokenizer."}
    )
    vision_tower: str | None = field(
        default=None, metadata={"help": "CLIP in transformers' layout, for a LLaVA that came without its image tower."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder of LLaVA's tokenizer. Default: source, where it has one."}
    )
    reference: str | None = field(
        default=None,
        metadata={
            "help": "Safetensors file with inputs and what the original answered: see modeling/conversion/reference.py."
        },
    )
    tolerance: float = field(default=1e-3, metadata={"help": "Largest accepted difference from the reference."})
    shard_gb: float = field(default=5.0, metadata={"help": "Gigabytes a file at most; memory holds about one file."})

    @property
    def folder(self) -> Path:
        """The result's folder."""
        return Path(self.output_dir)

    @property
    def beside(self) -> Path:
        """The folder in which to look for what belongs to the source."""
        source = Path(self.source)
        return source if source.is_dir() else source.parent


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an error that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def read_if_there(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no such file."""
    return read_json(path) if path.is_file() else {}


def left_out(source: Checkpoint, plan: Plan) -> list[str]:
    """The tensors that a plan makes no use of."""
    used = {name for recipe in plan.values() for name in recipe.sources}
    return [name for name in source.places if name not in used]


def empty_model(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """A model without weights, to be asked for shapes and to save its configuration."""
    with torch.device("meta"):
        return model_class(config)


def compare(
    args: ConvertArguments,
    model_class: type[PreTrainedModel],
    configs: dict[str, PretrainedConfig],
    differences: Callable[[nn.Module, dict[str, Tensor]], dict[str, float]],
) -> tuple[str, dict[str, float]]:
    """Compare the written weights, under each configuration, with the reference, and tell which one agrees.

    Args:
        args: With `reference` and `tolerance`.
        model_class: Of the result.
        configs (`dict`): Configurations by what an error and the record call them.
        differences (`Callable`): Largest difference of each output.

    Returns:
        `tuple`: the name of the only configuration within the tolerance, and its differences.

    Raises:
        ValueError: If none agrees, or several do.
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
    """Write where the result came from and what was decided on the way."""
    record = {
        "source": {path.name: sha256(path) for path in files},
        "to": args.to,
        **facts,
        "versions": {name: version(name) for name in ("compalign", "transformers", "torch", "safetensors")},
    }
    (args.folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
