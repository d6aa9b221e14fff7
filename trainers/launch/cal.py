"""The start of a CAL training: a multimodal model, its processor and its conversations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel, ProcessorMixin, set_seed
from transformers.integrations import deepspeed

from ...data import load_conversations
from ...data.scenes import SceneConversationDataset, SceneReadingDataset
from ...modeling import LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration
from ...modeling.kinds import load_config, load_model, load_processor
from ..adapters import PROJECTORS, AdapterArguments, add_adapters, refuse_adapter_chain
from ..cal import CALArguments, CALTrainer, freeze_untrained
from .assemble import assemble_llava, assemble_processor

CAL_CLASSES = {"llava": LlavaCALForConditionalGeneration, "llava_next": LlavaNextCALForConditionalGeneration}
# QLoRA quantises the language model alone; the parts that are trained in full, or are small, keep their precision.
NEVER_QUANTISED = [rf"(.*\.)?{part}" for part in ("vision_tower", "visual", "vision_model", "lm_head", *PROJECTORS)]


@dataclass
class ConversationModelArguments(AdapterArguments):
    """Where the weights come from, and how they are adapted."""

    GROUP: ClassVar[str] = "model"

    model: str = field(
        default="llava-hf/llava-1.5-7b-hf", metadata={"help": "Checkpoint to start from: a Hub id or a folder."}
    )
    vision_tower: str | None = field(
        default=None,
        metadata={"help": "Start from a new LLaVA on the vision tower of this CLIP checkpoint, instead of --model."},
    )
    language_model: str | None = field(
        default=None,
        metadata={"help": "Language model of the new LLaVA; by default a small new one for the generated world."},
    )
    language_layers: int = field(default=4, metadata={"help": "Number of layers of the small new language model."})
    anyres: bool = field(default=False, metadata={"help": "Make a LLaVA-NeXT, which tiles large images."})
    chat_template: str | None = field(
        default=None,
        metadata={"help": "Jinja file, for a processor without a template, or with one that does not end an answer."},
    )
    adapted: list[str] = field(
        default_factory=lambda: ["text"],
        metadata={"help": "Towers with adapters: text is the language model, vision the image tower."},
    )
    load_in_4bit: bool = field(default=False, metadata={"help": "Quantise the frozen weights (QLoRA; bitsandbytes)."})


@dataclass
class ConversationDataArguments:
    """Where the conversations come from."""

    GROUP: ClassVar[str] = "data"

    train: list[str] = field(
        default_factory=list,
        metadata={"help": "Conversations: files, folders or Hub ids, in any format of load_conversations."},
    )
    images: str | None = field(default=None, metadata={"help": "Folder of the images; by default that of the file."})
    scenes: int = field(default=0, metadata={"help": "Number of generated conversations to use instead of --train."})
    scene_texts: int = field(
        default=0,
        metadata={"help": "Number of generated texts with questions, without images, to use instead of --train."},
    )
    scene_size: int = field(default=64, metadata={"help": "Side of the generated images in pixels."})
    scene_objects: int | None = field(
        default=None, metadata={"help": "Number of objects per generated scene; default: one to four."}
    )
    shuffled: float = field(
        default=0.0, metadata={"help": "Share of generated conversations whose text belongs to another image."}
    )
    irrelevant: float = field(
        default=0.0, metadata={"help": "Share of the words of generated answers that are not about the image."}
    )


def start_model(start: ConversationModelArguments, args: CALArguments, processor: ProcessorMixin) -> Any:
    """Load the model, with the parts frozen or adapted that the recipe asks for.

    LLaVA checkpoints load into our classes, whose configuration keeps how the model was trained; any other
    image-text-to-text model loads as it is. With `bf16`, a model that is trained in full is float32 all the same. Its
    weights are bfloat16 beside adapters, and for DeepSpeed, which makes float32 copies of its own.

    Raises:
        ValueError: If 4-bit weights would be trained without adapters, an assembled model be adapted, or an adapter put
            on an adapter.
    """
    if start.load_in_4bit and not start.lora_rank:
        raise ValueError("load_in_4bit freezes the weights: set lora_rank to train adapters on them")
    if start.vision_tower is not None:
        if start.lora_rank:
            raise ValueError("adapters are saved without their base: save the assembled model, then adapt it by name")
        set_seed(args.seed)
        with _without_zero3(args):
            model: Any = assemble_llava(start.vision_tower, start.language_model, processor, start.language_layers)
    else:
        refuse_adapter_chain(start)
        model = load_model(
            start.model,
            CAL_CLASSES.get(load_config(start.model).model_type),
            dtype=torch.bfloat16 if args.bf16 and (args.deepspeed or start.lora_rank) else torch.float32,
            merge_adapter=True,
            quantization_config=_four_bits(args) if start.load_in_4bit else None,
        )
    if type(model) in CAL_CLASSES.values():
        settings = {"cal_clamp": tuple(args.cal_clamp), "cal_window": args.cal_window, "cal_pooling": args.cal_pooling}
        model.config.update(settings)
    if start.lora_rank:
        return _with_adapters(model, start, args)
    freeze_untrained(model, args.train_parts)
    return model


@contextmanager
def _without_zero3(args: CALArguments) -> Iterator[None]:
    """Let models have whole weights, which can be put together; DeepSpeed shards them later."""
    if args.deepspeed:
        deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        if args.deepspeed:
            deepspeed.set_hf_deepspeed_config(args.hf_deepspeed_config)


def _four_bits(args: CALArguments) -> BitsAndBytesConfig:
    """QLoRA's format: four-bit normal floats, computed with in the precision of the training."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if args.bf16 else torch.float32,
        llm_int8_skip_modules=NEVER_QUANTISED,
    )


def _with_adapters(model: PreTrainedModel, start: ConversationModelArguments, args: CALArguments) -> Any:
    """Put adapters on the model, and prepare its four-bit weights for them."""
    from peft import prepare_model_for_kbit_training

    if start.load_in_4bit:
        model = prepare_model_for_kbit_training(model, args.gradient_checkpointing)
    return add_adapters(model, start, args.seed)


def start_processor(start: ConversationModelArguments) -> ProcessorMixin:
    """Load the model's processor, with another chat template where one is given."""
    if start.vision_tower is not None:
        processor = assemble_processor(start.vision_tower, start.language_model, start.anyres)
    else:
        processor = load_processor(start.model)
    if start.chat_template is not None:
        processor.chat_template = Path(start.chat_template).read_text(encoding="utf-8")
    return processor


def training_rows(data: ConversationDataArguments, args: CALArguments) -> Any:
    """Load the training rows.

    Raises:
        ValueError: If not exactly one of a source, a number of scenes and a number of texts is given.
    """
    given = {name: getattr(data, name) for name in ("train", "scenes", "scene_texts")}
    if sum(map(bool, given.values())) != 1:
        got = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"give exactly one of train, scenes and scene_texts, got {got}")
    if data.scene_texts:
        return SceneReadingDataset(data.scene_texts, "train", args.seed)
    if data.scenes:
        return SceneConversationDataset(
            data.scenes, "train", data.scene_size, args.seed, data.shuffled, data.irrelevant, data.scene_objects
        )
    return load_conversations(data.train, data.images, on_bad_row=args.on_bad_row)


def make_cal_trainer(
    start: ConversationModelArguments, data: ConversationDataArguments, args: CALArguments
) -> CALTrainer:
    """Make the trainer of a recipe: its processor, its model and its rows."""
    processor = start_processor(start)
    return CALTrainer(
        model=start_model(start, args, processor),
        args=args,
        train_dataset=training_rows(data, args),
        processing_class=processor,
    )
