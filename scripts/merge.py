"""Merge an adapter into its base: a plain model, which needs no peft and costs nothing more at inference.

    compalign merge --adapter runs/degla_lora --output_dir runs/degla_merged

Prints by how much the answers on a fixed input change. The processor is saved with the model.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass
class MergeArguments:
    """The adapter to merge, and the folder of the result."""

    adapter: str = field(metadata={"help": "Adapter, a folder or a Hub id; it names its base.", "group": "model"})
    output_dir: str = field(metadata={"help": "New folder for the merged model.", "group": "output"})


def main(arguments: list[str] | None = None) -> "PreTrainedModel":
    """Load, merge, compare, save.

    Raises:
        ValueError: If the output folder is not empty, or there is no adapter at that place.
    """
    (args,) = parse_recipe(MergeArguments, arguments=arguments, description=__doc__, command="compalign merge")
    folder = Path(args.output_dir)
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"output_dir={args.output_dir} is not empty; give a new folder")
    from peft import PeftModel

    from ..modeling import load_model, load_processor

    adapted = load_model(args.adapter, dtype="auto")
    if not isinstance(adapted, PeftModel):
        raise ValueError(f"{args.adapter} is a whole {type(adapted).__name__}, not an adapter: nothing to merge")
    processor = load_processor(args.adapter)
    before = answers(adapted, processor)
    merged = adapted.merge_and_unload(safe_merge=True)
    after = answers(merged, processor)
    difference = max((after[name] - value).abs().max().item() for name, value in before.items())
    merged.save_pretrained(folder)
    processor.save_pretrained(folder)
    print(f"{folder}: a plain {type(merged).__name__}; answers on a fixed input change by {difference:.0e} at most")
    return merged


def answers(model: "nn.Module", processor: "ProcessorMixin") -> "dict[str, Tensor]":
    """Ask a model about a fixed input, and return the tensors of its answer in float32."""
    import torch

    from ..hub_cards.load_back import fixed_inputs

    with torch.inference_mode():
        output = model(**fixed_inputs(processor))
    return {name: value.float() for name, value in output.items() if isinstance(value, torch.Tensor)}
