"""What `train_cal.py` needs besides the entry helpers of all methods: a multimodal model and its conversations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedModel,
    ProcessorMixin,
    set_seed,
)
from transformers.integrations import deepspeed

from ..data import load_conversations
from ..data.scenes import SceneConversationDataset
from ..modeling import LlavaCALForConditionalGeneration, LlavaNextCALForConditionalGeneration
from .adapters import PROJECTORS, AdapterArguments, add_adapters
from .assemble import assemble_llava, assemble_processor
from .cal import CALArguments, CALTrainer, freeze_untrained

CAL_CLASSES = {"llava": LlavaCALForConditionalGeneration, "llava_next": LlavaNextCALForConditionalGeneration}
# QLoRA quantises the language model alone: what is trained in full and what is small stays as it is.
NEVER_QUANTISED = [rf"(.*\.)?{part}" for part in ("vision_tower", "visual", "vision_model", "lm_head", *PROJECTORS)]


@dataclass
class ConversationModelArguments(AdapterArguments):
    """Where the weights come from, and how they are adapted."""

    model: str = field(
        default="llava-hf/llava-1.5-7b-hf", metadata={"help": "Checkpoint to start from: a Hub id or a folder."}
    )
    vision_tower: str | None = field(
        default=None, metadata={"help": "Instead: a new LLaVA on the vision tower of this CLIP checkpoint."}
    )
    language_model: str | None = field(
        default=None, metadata={"help": "Its language model; default: a small new one for the generated world."}
    )
    language_layers: int = field(default=4, metadata={"help": "Layers of that small new one."})
    anyres: bool = field(default=False, metadata={"help": "Make it a LLaVA-NeXT, which tiles large images."})
    chat_template: str | None = field(
        default=None, metadata={"help": "Jinja file, where the processor has no template or none that ends an answer."}
    )
    adapted: list[str] = field(
        default_factory=lambda: ["text"],
        metadata={"help": "Towers with adapters: text is the language model, vision the image tower."},
    )
    load_in_4bit: bool = field(default=False, metadata={"help": "Quantise the frozen weights (QLoRA; bitsandbytes)."})


@dataclass
class ConversationDataArguments:
    """Where the conversations come from."""

    train: list[str] = field(
        default_factory=list,
        metadata={"help": "Conversations: files, folders or Hub ids, in any format of load_conversations."},
    )
    images: str | None = field(default=None, metadata={"help": "Folder of the images; default: beside the file."})
    scenes: int = field(default=0, metadata={"help": "So many conversations about generated scenes instead."})
    scene_size: int = field(default=64, metadata={"help": "Side of their images in pixels."})
    shuffled: float = field(default=0.0, metadata={"help": "Share of them whose text belongs to another image."})


def load_conversational_model(start: ConversationModelArguments, args: CALArguments, processor: ProcessorMixin) -> Any:
    """The model with the parts frozen or adapted that the recipe asks for.

    LLaVA checkpoints load into our classes, whose configuration keeps how the model was trained; any other
    image-text-to-text model loads as it is.

    Raises:
        ValueError: If 4-bit weights would be trained without adapters, or an assembled model with them.
    """
    if start.load_in_4bit and not start.lora_rank:
        raise ValueError("load_in_4bit freezes the weights: set lora_rank to train adapters on them")
    if start.vision_tower is not None:
        if start.lora_rank:
            raise ValueError("adapters are saved without their base: save the assembled model, then adapt it by name")
        set_seed(args.seed)
        with _without_zero3(args):
            model = assemble_llava(start.vision_tower, start.language_model, processor, start.language_layers)
    else:
        kind = AutoConfig.from_pretrained(start.model).model_type
        model_class = CAL_CLASSES.get(kind, AutoModelForImageTextToText)
        model = model_class.from_pretrained(
            start.model,
            dtype=torch.bfloat16 if args.bf16 else torch.float32,
            quantization_config=_four_bits(args) if start.load_in_4bit else None,
        )
    if isinstance(model, tuple(CAL_CLASSES.values())):
        settings = {"cal_clamp": tuple(args.clamp), "cal_window": args.window, "cal_pooling": args.pooling}
        model.config.update(settings)
    if start.lora_rank:
        return _with_adapters(model, start, args)
    freeze_untrained(model, args.trained)
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
    """The model with adapters, its four-bit weights made ready for them."""
    from peft import prepare_model_for_kbit_training

    if start.load_in_4bit:
        model = prepare_model_for_kbit_training(model, args.gradient_checkpointing)
    return add_adapters(model, start, args.seed)


def load_conversational_processor(start: ConversationModelArguments) -> ProcessorMixin:
    """The model's processor, with another chat template where one is given."""
    if start.vision_tower is not None:
        processor = assemble_processor(start.vision_tower, start.language_model, start.anyres)
    else:
        processor = AutoProcessor.from_pretrained(start.model)
    if start.chat_template is not None:
        processor.chat_template = Path(start.chat_template).read_text(encoding="utf-8")
    return processor


def load_conversation_rows(data: ConversationDataArguments, args: CALArguments) -> Any:
    """The training rows.

    Raises:
        ValueError: If neither a source nor a number of scenes is given, or both are.
    """
    if bool(data.train) == bool(data.scenes):
        raise ValueError(f"give either train or scenes, got train={data.train} and scenes={data.scenes}")
    if data.scenes:
        return SceneConversationDataset(data.scenes, "train", data.scene_size, args.seed, data.shuffled)
    return load_conversations(data.train, data.images, on_bad_row=args.on_bad_row)


def make_cal_trainer(
    start: ConversationModelArguments, data: ConversationDataArguments, args: CALArguments
) -> CALTrainer:
    """The trainer of a recipe: its processor, its model and its rows."""
    processor = load_conversational_processor(start)
    return CALTrainer(
        model=load_conversational_model(start, args, processor),
        args=args,
        train_dataset=load_conversation_rows(data, args),
        processing_class=processor,
    )
