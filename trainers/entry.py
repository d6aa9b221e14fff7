"""What the entry points share: where weights and rows come from, and one run from start to saved model."""

import dataclasses
import json
import resource
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoModel,
    AutoProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPProcessor,
    ProcessorMixin,
    set_seed,
)

from ..data import NegativeGenerator, load_captions
from ..data.negatives import CECLIP_KINDS, prepare
from ..data.tokenization import clip_tokenizer_from_bpe
from .adapters import AdapterArguments, add_adapters
from .base import AlignmentArguments
from .term_trainer import TermTrainer


@dataclass
class ModelArguments(AdapterArguments):
    """Where the weights come from, and whether they are adapted."""

    model: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "Checkpoint to start from: a Hub id or a folder."}
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Random weights in the shape of ViT-B/32 instead; nothing is downloaded."}
    )
    bpe_vocabulary: str | None = field(
        default=None, metadata={"help": "bpe_simple_vocab_16e6.txt.gz, for a processor made without the Hub."}
    )


@dataclass
class DataArguments:
    """Where the rows come from."""

    train: str = field(metadata={"help": "Captions: a file, a folder or a Hub id, in any format of load_captions."})
    images: str | None = field(default=None, metadata={"help": "Folder of the images; default: beside the captions."})
    only: str | None = field(default=None, metadata={"help": "Text file of the image names to keep."})
    negatives: Literal["dataset", "rules"] = field(
        default="dataset", metadata={"help": "Take the negatives of the data, or propose them by rule."}
    )


def load_model(model_class: type, arguments: ModelArguments, seed: int, **config: Any) -> Any:
    """The model to train, in float32, with the adapters that the recipe asks for.

    Args:
        model_class (`type`): `AutoModel` or one of our classes.
        arguments (`ModelArguments`): Checkpoint, or random weights; adapters.
        seed (`int`): Of random weights, which all processes have to draw alike.
        config: Fields of the configuration to set.

    Raises:
        ValueError: If random weights would be adapted.
    """
    if not arguments.from_scratch:
        model = model_class.from_pretrained(arguments.model, dtype=torch.float32, **config)
        return add_adapters(model, arguments, seed) if arguments.lora_rank else model
    if arguments.lora_rank:
        raise ValueError("adapters are saved without their base, and that of from_scratch is nowhere: set lora_rank=0")
    set_seed(seed)
    if model_class is AutoModel:
        return AutoModel.from_config(CLIPConfig(**config))
    return model_class(model_class.config_class(**config))


def load_processor(arguments: ModelArguments) -> ProcessorMixin:
    """The model's processor, or CLIP's own made from its vocabulary file."""
    if arguments.bpe_vocabulary is None:
        return AutoProcessor.from_pretrained(arguments.model)
    return CLIPProcessor(CLIPImageProcessor(), clip_tokenizer_from_bpe(arguments.bpe_vocabulary))


def load_rows(arguments: DataArguments, training: AlignmentArguments, typed: bool = False) -> Any:
    """The training rows; negatives proposed by rule where the recipe asks for it.

    Args:
        arguments (`DataArguments`): What to read.
        training (`AlignmentArguments`): Policy on bad rows, seed, and how many negatives a caption.
        typed (`bool`): Keep CE-CLIP's columns: relation, adjective, noun, verb.
    """
    rows = load_captions(arguments.train, arguments.images, only=arguments.only, on_bad_row=training.on_bad_row)
    if arguments.negatives == "dataset":
        return rows
    if typed and training.num_negatives != len(CECLIP_KINDS):
        raise ValueError(
            f"num_negatives is {training.num_negatives}; the rules make {', '.join(CECLIP_KINDS)}: set it to 4"
        )
    generator = NegativeGenerator(num_negatives=max(training.num_negatives, 1), seed=training.seed)
    return prepare(rows, generator.propose_typed if typed else generator.propose)


def train_and_save(trainer: TermTrainer) -> None:
    """Train, resume where asked, save the model with its processor and record; print time, speed and peak memory."""
    set_seed(trainer.args.seed)
    asked = trainer.args.resume_from_checkpoint  # a folder, or "true" for the latest in the output folder
    result = trainer.train(resume_from_checkpoint=True if asked in ("true", "True") else asked)
    trainer.save_model()
    metrics = {**result.metrics, "peak_memory_bytes": peak_memory_bytes()}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    record = json.dumps(run_record(trainer), indent=1, default=str)
    Path(trainer.args.output_dir, "run.json").write_text(record + "\n", encoding="utf-8")
    trainer.accelerator.end_training()  # processes that leave the group at will abort each other


def run_record(trainer: TermTrainer) -> dict[str, Any]:
    """What it takes to repeat a run: the arguments that differ from their defaults, the processes, the versions.

    Fields whose names speak of tokens are left out, for the record lies beside the weights.
    """
    arguments = {
        item.name: value
        for item in dataclasses.fields(trainer.args)
        if item.init and "token" not in item.name
        if (value := getattr(trainer.args, item.name)) != _default(item)
    }
    return {
        "trainer": type(trainer).__name__,
        "start": trainer.model.config.name_or_path,
        "arguments": arguments,
        "processes": trainer.args.world_size,
        "versions": {library: version(library) for library in ("compalign", "torch", "transformers", "accelerate")},
    }


def _default(item: dataclasses.Field) -> Any:
    """A field's default value."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def peak_memory_bytes() -> int:
    """The most memory that this process has held: on its GPU, or resident where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
