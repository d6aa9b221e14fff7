"""The start of a dual encoder's training: its weights, its processor and its rows."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from transformers import AutoModel, CLIPConfig, CLIPImageProcessorPil, CLIPProcessor, ProcessorMixin, set_seed

from ...data import NegativeGenerator, load_captions
from ...data.negatives import CECLIP_KINDS, prepare
from ...data.tokenization import clip_tokenizer_from_bpe
from ...modeling.kinds import load_config, load_model, load_processor
from ..adapters import AdapterArguments, add_adapters, refuse_adapter_chain
from ..dual_encoder import DualEncoderArguments, DualEncoderTrainer


@dataclass
class ModelArguments(AdapterArguments):
    """Where the weights come from, and whether they are adapted."""

    GROUP: ClassVar[str] = "model"

    model: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "Checkpoint to start from: a Hub id or a folder."}
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "Start from random weights in the shape of ViT-B/32; nothing is downloaded."},
    )
    bpe_vocabulary: str | None = field(
        default=None, metadata={"help": "bpe_simple_vocab_16e6.txt.gz, to make CLIP's processor without the Hub."}
    )


@dataclass
class DataArguments:
    """Where the rows come from."""

    GROUP: ClassVar[str] = "data"

    train: str = field(metadata={"help": "Captions: a file, a folder or a Hub id, in any format of load_captions."})
    images: str | None = field(
        default=None, metadata={"help": "Folder of the images; by default that of the captions."}
    )
    only: str | None = field(default=None, metadata={"help": "Text file with the names of the images to keep."})
    negatives: Literal["dataset", "rules"] = field(
        default="dataset", metadata={"help": "Take the negatives of the dataset, or propose them by rule."}
    )


def start_model(model_class: Any, arguments: ModelArguments, seed: int, **config: Any) -> Any:
    """Load the model to train in float32, with the adapters that the recipe asks for.

    An adapter as a start is merged into its base. Our classes are of CLIP; another dual encoder, such as SigLIP, is
    trained in its own class.

    Args:
        model_class (`type`): `AutoModel` or one of our classes.
        arguments (`ModelArguments`): Checkpoint or random weights; adapters.
        seed (`int`): Seed of random weights, which all processes have to draw alike.
        config: Fields of the configuration to set.

    Raises:
        ValueError: If random weights would be adapted, or an adapter put on an adapter.
    """
    if not arguments.from_scratch:
        refuse_adapter_chain(arguments)
        if not isinstance(load_config(arguments.model), CLIPConfig):
            model_class, config = AutoModel, {}
        model = load_model(arguments.model, model_class, merge_adapter=True, **config)
        return add_adapters(model, arguments, seed) if arguments.lora_rank else model
    if arguments.lora_rank:
        raise ValueError("adapters are saved without their base, and from_scratch has no saved base: set lora_rank=0")
    set_seed(seed)
    if model_class is AutoModel:
        return AutoModel.from_config(CLIPConfig(**config))
    return model_class(model_class.config_class(**config))


def start_processor(arguments: ModelArguments) -> ProcessorMixin:
    """Load the model's processor, or make CLIP's own from its vocabulary file."""
    if arguments.bpe_vocabulary is None:
        return load_processor(arguments.model)
    return CLIPProcessor(CLIPImageProcessorPil(), clip_tokenizer_from_bpe(arguments.bpe_vocabulary))


def training_rows(arguments: DataArguments, training: DualEncoderArguments, typed: bool = False) -> Any:
    """Load the training rows; propose negatives by rule where the recipe asks for it.

    Args:
        arguments (`DataArguments`): What to read.
        training (`DualEncoderArguments`): Policy on bad rows, seed, and the number of negatives per caption.
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
    propose: Any = generator.propose_typed if typed else generator.propose
    return prepare(rows, propose)


def make_dual_encoder_trainer(
    trainer_class: Any,
    model_class: Any,
    start: ModelArguments,
    data: DataArguments,
    args: DualEncoderArguments,
    typed: bool = False,
    **config: Any,
) -> DualEncoderTrainer:
    """Make the trainer of a recipe: its model, its rows and its processor.

    Args:
        trainer_class, model_class (`type`): The method's.
        start, data, args: The recipe.
        typed (`bool`): Whether the method needs CE-CLIP's typed negatives.
        config: Fields of the model's configuration to set.
    """
    return trainer_class(
        model=start_model(model_class, start, args.seed, **config),
        args=args,
        train_dataset=training_rows(data, args, typed),
        processing_class=start_processor(start),
    )
