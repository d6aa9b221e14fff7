"""A new LLaVA or LLaVA-NeXT from its parts: a CLIP vision tower, a language model, and a projector between them."""

from importlib.resources import files
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ...data.scenes.conversations import scene_messages
from ...data.tokenization import train_word_tokenizer
from ...modeling import (
    LlavaCALConfig,
    LlavaCALForConditionalGeneration,
    LlavaNextCALConfig,
    LlavaNextCALForConditionalGeneration,
)

CORPUS_ROWS, MIXED = 2000, 0.5  # conversations, half of their words about no image, that show every word of the world
IMAGE_TOKEN, PAD_TOKEN = "<image>", "<pad>"
VOCABULARY_MULTIPLE = 64  # the width of matrix tiles; LLaVA's 32,002 tokens become 32,064 rows
GRID = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # LLaVA-NeXT's tilings, in tiles
VICUNA_V1 = files("compalign.trainers") / "templates" / "vicuna_v1.jinja"


def assemble_processor(
    vision_tower: str, language_model: str | None = None, anyres: bool = False
) -> LlavaProcessor | LlavaNextProcessor:
    """Make the processor of a new LLaVA: the tower's pixels, the language model's tokens, Vicuna's conversation format.

    Args:
        vision_tower (`str`): CLIP checkpoint, a Hub id or a folder.
        language_model (`str`, *optional*): Its tokenizer gets `<image>` and, where it has none, `<pad>`. By default
            every word of the generated world is one token.
        anyres (`bool`): Tile large images, as LLaVA-NeXT does.
    """
    vision = _vision_config(vision_tower)
    images = AutoImageProcessor.from_pretrained(vision_tower)
    if anyres:
        side = vision.image_size
        pinpoints = [[rows * side, columns * side] for rows, columns in GRID]
        images = LlavaNextImageProcessorPil(
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_grid_pinpoints=pinpoints,
            image_mean=images.image_mean,
            image_std=images.image_std,
        )
    processor_class: Any = LlavaNextProcessor if anyres else LlavaProcessor
    return processor_class(
        images,
        _tokenizer(language_model),
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA_V1.read_text(encoding="utf-8"),
    )


def assemble_llava(
    vision_tower: str,
    language_model: str | None,
    processor: LlavaProcessor | LlavaNextProcessor,
    language_layers: int = 4,
) -> PreTrainedModel:
    """Put together a LLaVA (or LLaVA-NeXT, by the processor) from pretrained parts and a new projector, in float32.

    Args:
        vision_tower (`str`): CLIP checkpoint, a Hub id or a folder.
        language_model (`str`, *optional*): Causal language model of the Llama kind; by default a new one with two
            million parameters.
        processor: From `assemble_processor`.
        language_layers (`int`): Layers of the new language model.
    """
    tower = CLIPVisionModel.from_pretrained(vision_tower, dtype=torch.float32)
    tokenizer = processor.tokenizer
    if language_model is None:
        language = _small_language_model(tokenizer, language_layers)
    else:
        language = _extended(language_model, tokenizer)
    vision = tower.config
    # Path and data type belong to the part alone: the whole is saved elsewhere, perhaps in another data type.
    vision.name_or_path, vision.dtype = "", None
    settings = {
        "vision_config": vision,
        "text_config": language.config,
        "image_token_index": tokenizer.image_token_id,
        "image_seq_length": (vision.image_size // vision.patch_size) ** 2,
    }
    if isinstance(processor, LlavaNextProcessor):
        settings["image_grid_pinpoints"] = processor.image_processor.image_grid_pinpoints
        model = LlavaNextCALForConditionalGeneration(LlavaNextCALConfig(**settings))
    else:
        model = LlavaCALForConditionalGeneration(LlavaCALConfig(**settings))
    model.get_encoder("image").load_state_dict(tower.state_dict())
    model.get_decoder().load_state_dict(language.model.state_dict())
    model.get_output_embeddings().load_state_dict(language.lm_head.state_dict())
    return model


def _vision_config(vision_tower: str):
    """The configuration of the vision tower of a CLIP checkpoint."""
    config = AutoConfig.from_pretrained(vision_tower)
    return config if config.model_type == "clip_vision_model" else config.vision_config


def _tokenizer(language_model: str | None) -> PreTrainedTokenizerBase:
    """The language model's tokenizer with a token for images."""
    if language_model is not None:
        tokenizer = AutoTokenizer.from_pretrained(language_model, extra_special_tokens={"image_token": IMAGE_TOKEN})
        if tokenizer.pad_token is None:
            tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
        return tokenizer
    contents: list[Any] = [
        message["content"] for seed in range(CORPUS_ROWS) for message in scene_messages(seed, irrelevant=MIXED)
    ]
    texts = [part["text"] for content in contents for part in content if part["type"] == "text"]
    special = {
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": PAD_TOKEN,
        "image_token": IMAGE_TOKEN,
    }
    return train_word_tokenizer(["USER: ASSISTANT:", *texts], special)


def _extended(language_model: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A pretrained language model with rows for the new tokens, drawn around the mean of the others."""
    language = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32)
    language.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=VOCABULARY_MULTIPLE, mean_resizing=True)
    return language


def _small_language_model(tokenizer: PreTrainedTokenizerBase, layers: int) -> LlamaForCausalLM:
    """A new Llama that learns the generated world in minutes on a CPU."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=layers,
            num_attention_heads=6,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
