"""Merge an adapter into its base: a plain model, which needs no peft and costs nothing more at inference.

    python -m compalign.scripts.merge_adapter --adapter runs/degla_lora --output_dir runs/degla_merged

Prints by how much the answers on a fixed input change; the processor is saved with the model.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from huggingface_hub import snapshot_download
from transformers import PreTrainedModel, ProcessorMixin

from .. import modeling
from ..hub_cards.load_back import fixed_inputs, load_processor
from ..trainers.recipe import parse_recipe

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


@dataclass
class MergeArguments:
    """What to merge, and where the result goes."""

    adapter: str = field(metadata={"help": "Adapter: a folder or a Hub id. It names its base."})
    output_dir: str = field(metadata={"help": "New folder for the model."})


def main(arguments: list[str] | None = None) -> PreTrainedModel:
    """Load, merge, compare, save."""
    (args,) = parse_recipe(MergeArguments, arguments=arguments, description=__doc__)
    folder = Path(args.output_dir)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"output_dir={args.output_dir} is not empty")
    adapter = args.adapter if Path(args.adapter).is_dir() else snapshot_download(args.adapter)
    adapted, processor = load_adapted(adapter), load_processor(adapter)
    before = answers(adapted, processor)
    merged = adapted.merge_and_unload(safe_merge=True)
    after = answers(merged, processor)
    difference = max((after[name] - value).abs().max().item() for name, value in before.items())
    merged.save_pretrained(folder)
    processor.save_pretrained(folder)
    print(f"{folder}: a plain {type(merged).__name__}; answers on a fixed input change by {difference:.0e} at most")
    return merged


def load_adapted(adapter: str | Path) -> "PeftModel":
    """Load an adapter over its base, as a model of the class that it was trained on, in the type of the base's weights.

    Raises:
        ValueError: If the adapter does not say what its base is.
    """
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(adapter)
    base = base_class(config, adapter).from_pretrained(config.base_model_name_or_path, dtype="auto")
    return PeftModel.from_pretrained(base, adapter).eval()


def base_class(config: "PeftConfig", adapter: str | Path) -> type[PreTrainedModel]:
    """The class of ours or of transformers on which an adapter was trained; nothing else is imported.

    Raises:
        ValueError: If there is no such class, or no base is named.
    """
    if not config.base_model_name_or_path:
        raise ValueError(f"{adapter}: adapter_config.json names no base; set base_model_name_or_path")
    name = (config.auto_mapping or {}).get("base_model_class")
    library = modeling if name in modeling.__all__ else transformers
    found = getattr(library, str(name), None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"{adapter}: auto_mapping names {name!r}; accepted: models of compalign and transformers")
    return found


@torch.inference_mode()
def answers(model: torch.nn.Module, processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """A model's answers to a fixed input, those that are numbers, in float32."""
    output = model(**fixed_inputs(processor))
    return {name: value.float() for name, value in output.items() if isinstance(value, torch.Tensor)}


if __name__ == "__main__":
    main()
