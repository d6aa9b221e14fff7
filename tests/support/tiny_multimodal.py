"""Tiny image-text-to-text models of each kind that CAL meets, inputs for them, and LLaVA's real processors.

Weights are random, with a fixed seed, and so large that images visibly move the logits of the text after them.
"""

import json
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    Gemma3Config,
    LlamaTokenizer,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    MllamaConfig,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2VLConfig,
    SiglipImageProcessorPil,
    SmolVLMConfig,
)

from compalign.data.scenes import full_caption, generate_scene, questions

IMAGE_SIZE, PATCH, WIDTH, VOCABULARY, WINDOW = 32, 8, 32, 300, 8
SIDE = IMAGE_SIZE // PATCH  # of an image, in patches
PINPOINTS = [[IMAGE_SIZE, 2 * IMAGE_SIZE], [2 * IMAGE_SIZE, IMAGE_SIZE]]  # (height, width) in pixels
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "<image_start>", "<image_end>", "<video>"]
UNKNOWN, BOS, EOS, PAD, IMAGE, IMAGE_START, IMAGE_END, VIDEO = range(8)

# One line a conversation, as LLaVA-1.5's: a user's images before the user's words, an end token after each answer.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
  {%- set words = message.content if message.content is string else
      message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') -%}
  {%- if message.role == 'assistant' -%}
    {{- 'ASSISTANT: ' -}}{%- generation -%}{{- words + eos_token -}}{%- endgeneration -%}
  {%- else -%}
    {{- 'USER: ' if message.role == 'user' -}}
    {%- for part in message.content if part.type == 'image' -%}{{- '<image>\\n' -}}{%- endfor -%}
    {{- words + ' ' -}}
  {%- endif -%}
{%- endfor -%}
{{- 'ASSISTANT:' if add_generation_prompt -}}
"""


@cache
def train_tokenizer() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges: frequent words of the generated world are one token, printable characters one each."""
    corpus = ["USER: ASSISTANT:"] * 100
    for seed in range(100):
        scene, rng = generate_scene(seed), random.Random(seed)
        corpus += [full_caption(scene, rng).text, *(f"{asked.text} {asked.answer}" for asked in questions(scene, rng))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    # Passed as special tokens, characters get fixed ids; met in the corpus, they would get those of a hash map's order.
    fixed = [*SPECIAL_TOKENS, "▁", "\n", *map(chr, range(33, 127))]
    tokenizer.train_from_iterator(corpus, BpeTrainer(vocab_size=VOCABULARY, special_tokens=fixed, show_progress=False))
    trained = json.loads(tokenizer.to_str())["model"]
    return trained["vocab"], [tuple(merge) for merge in trained["merges"]]


def make_processor(family: str) -> LlavaProcessor | LlavaNextProcessor:
    """The real processor of "llava" or "llava_next"; characters that are not printable ASCII get no token."""
    vocabulary, merges = train_tokenizer()
    tokenizer = LlamaTokenizer(
        vocabulary, merges, pad_token="<pad>", extra_special_tokens={"image_token": "<image>"}, model_max_length=2048
    )
    sizes = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
    processor_class, images = {
        "llava": (LlavaProcessor, CLIPImageProcessorPil(**sizes)),
        "llava_next": (LlavaNextProcessor, LlavaNextImageProcessorPil(**sizes, image_grid_pinpoints=PINPOINTS)),
    }[family]
    return processor_class(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def make_paligemma_processor() -> PaliGemmaProcessor:
    """PaliGemma's real processor, which has no chat template; the model's embeddings must be resized for it."""
    vocabulary, merges = train_tokenizer()
    tokenizer = LlamaTokenizer(vocabulary, merges, pad_token="<pad>", extra_special_tokens={"image_token": "<image>"})
    images = SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    images.image_seq_length = SIDE**2
    return PaliGemmaProcessor(images, tokenizer)


TRANSFORMER = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
VISION = {**TRANSFORMER, "image_size": IMAGE_SIZE, "patch_size": PATCH}
TEXT = {
    **TRANSFORMER,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
GEMMA = {**TEXT, "head_dim": WIDTH // 4}


def llava_config(config_class: type[PretrainedConfig] = LlavaConfig, text: dict | None = None, **fields):
    """LLaVA over Llama: one token a patch."""
    return config_class(
        vision_config={**VISION, "model_type": "clip_vision_model"},
        text_config={"model_type": "llama", **TEXT, **(text or {})},
        image_token_index=IMAGE,
        image_seq_length=SIDE**2,
        **fields,
    )


def qwen2_vl_config() -> PretrainedConfig:
    """Positions of three axes, and one token for four patches."""
    vision = {"depth": 1, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 4, "mlp_ratio": 2, "patch_size": PATCH}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    return Qwen2VLConfig(
        vision_config={**vision, "initializer_range": 0.2},
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=IMAGE_START,
        vision_end_token_id=IMAGE_END,
    )


def paligemma_config() -> PretrainedConfig:
    """Images and prompt attend to one another in both directions; one token a patch."""
    return PaliGemmaConfig(
        vision_config={**VISION, "vision_use_head": False, "model_type": "siglip_vision_model"},
        text_config={**GEMMA, "model_type": "gemma"},
        image_token_index=IMAGE,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        vocab_size=VOCABULARY,
    )


def smolvlm_config() -> PretrainedConfig:
    """Images are an axis of `pixel_values`; one token for four patches.

    Until 5.20 transformers reads tokens in blocks of `patch_size`, so the number of an image must be divisible by it.
    """
    return SmolVLMConfig(
        vision_config={**VISION, "patch_size": PATCH // 2},
        text_config={**TEXT, "model_type": "llama"},
        image_token_id=IMAGE,
        scale_factor=2,
    )


def gemma3_config(*layer_types: str) -> PretrainedConfig:
    """Tokens of one image attend to one another in both directions; one token for four patches."""
    return Gemma3Config(
        vision_config={**VISION, "vision_use_head": False, "model_type": "siglip_vision_model"},
        text_config={
            **GEMMA,
            "query_pre_attn_scalar": WIDTH // 4,
            "sliding_window": WINDOW,
            "layer_types": list(layer_types),
        },
        mm_tokens_per_image=SIDE**2 // 4,
        image_token_index=IMAGE,
        boi_token_index=IMAGE_START,
        eoi_token_index=IMAGE_END,
    )


def mllama_config() -> PretrainedConfig:
    """Text reaches images through cross-attention, in the second layer; one placeholder an image."""
    vision = {key: value for key, value in VISION.items() if key not in ("num_attention_heads", "num_hidden_layers")}
    return MllamaConfig(
        vision_config={
            **vision,
            "attention_heads": 4,
            "num_hidden_layers": 1,
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 2 * WIDTH,
            "max_num_tiles": 2,
            "supported_aspect_ratios": [[1, 1], [1, 2]],
        },
        text_config={**TEXT, "cross_attention_layers": [1]},
        image_token_index=IMAGE,
    )


class Images(NamedTuple):
    """The images of a batch: for each row, the tokens of each of its images; and what the vision tower reads."""

    tokens: list[list[list[int]]]
    inputs: dict[str, Tensor]


def _noise(*shape: int) -> Tensor:
    """Reproducible pixels."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _placeholders(counts: Sequence[int], *tokens: int) -> list[list[list[int]]]:
    """The same tokens for every image."""
    return [[list(tokens)] * count for count in counts]


def patch_images(counts: Sequence[int]) -> Images:
    """One token a patch."""
    return Images(
        _placeholders(counts, *[IMAGE] * SIDE**2), {"pixel_values": _noise(sum(counts), 3, IMAGE_SIZE, IMAGE_SIZE)}
    )


def pooled_images(counts: Sequence[int]) -> Images:
    """One token for four patches, between a start and an end token."""
    tokens = [IMAGE_START, *[IMAGE] * (SIDE**2 // 4), IMAGE_END]
    return Images(_placeholders(counts, *tokens), patch_images(counts).inputs)


def tiled_images(counts: Sequence[int]) -> Images:
    """The whole image and two tiles with a newline token a line of patches; wide and tall images in turn."""
    sizes = [PINPOINTS[index % 2] for index in range(sum(counts))]
    tokens = [[IMAGE] * (3 * SIDE**2 + height // PATCH) for height, _ in sizes]
    rows = [[tokens.pop(0) for _ in range(count)] for count in counts]
    pixels = _noise(len(sizes), 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    return Images(rows, {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)})


def qwen_images(counts: Sequence[int]) -> Images:
    """Flattened patches of two equal frames; one token for four patches."""
    grids = [(1, SIDE, SIDE + 2 * (index % 2)) for index in range(sum(counts))]
    tokens = [[IMAGE_START, *[IMAGE] * (rows * columns // 4), IMAGE_END] for _, rows, columns in grids]
    rows = [[tokens.pop(0) for _ in range(count)] for count in counts]
    pixels = _noise(sum(height * width for _, height, width in grids), 3 * 2 * PATCH**2)
    return Images(rows, {"pixel_values": pixels, "image_grid_thw": torch.tensor(grids)})


def image_axis(counts: Sequence[int]) -> Images:
    """Each row's images along an axis, filled up with images of zeros, which the model leaves out."""
    tokens = _placeholders(counts, IMAGE_START, *[IMAGE] * SIDE**2, IMAGE_END)
    pixels = torch.zeros(len(counts), max(counts), 3, IMAGE_SIZE, IMAGE_SIZE)
    for row, images in zip(pixels, patch_images(counts).inputs["pixel_values"].split(list(counts)), strict=True):
        row[: len(images)] = images
    return Images(tokens, {"pixel_values": pixels, "pixel_attention_mask": torch.ones(pixels.shape)[:, :, 0].long()})


def mllama_images(counts: Sequence[int]) -> Images:
    """Each row's images along an axis, all of one tile, and the tiles along another."""
    pixels = torch.zeros(len(counts), max(counts), 2, 3, IMAGE_SIZE, IMAGE_SIZE)
    pixels[:, :, 0] = image_axis(counts).inputs["pixel_values"]
    present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    tiles = torch.stack([torch.ones_like(present), torch.zeros_like(present)], dim=-1).long()
    inputs = {"pixel_values": pixels, "aspect_ratio_ids": present.long(), "aspect_ratio_mask": tiles}
    return Images(_placeholders(counts, IMAGE), inputs)


def image_types(name: str) -> Callable[[dict], dict]:
    """A further input under this name: 1 on image tokens, 0 elsewhere."""
    return lambda batch: {name: (batch["input_ids"] == IMAGE).long()}


def answer_types(batch: dict) -> dict:
    """PaliGemma's token types: 1 on the answer, 0 on images and prompt, whose attention has both directions."""
    return {"token_type_ids": (batch["labels"] != -100).long()}


def cross_attention(batch: dict) -> dict:
    """Every token sees the last image at or before it; in each image there is one tile."""
    image = (batch["input_ids"] == IMAGE).cumsum(dim=1)[..., None] - 1
    seen = image == torch.arange(batch["pixel_values"].shape[1])
    return {"cross_attention_mask": torch.stack([seen, torch.zeros_like(seen)], dim=-1).long()}


class Family(NamedTuple):
    """How to make the model's configuration, its images, and inputs that depend on the tokens."""

    config: Callable[[], PretrainedConfig]
    images: Callable[[Sequence[int]], Images]
    token_inputs: Callable[[dict], dict] = lambda batch: {}


FAMILIES = {
    "llava": Family(llava_config, patch_images),
    "llava_next": Family(lambda: llava_config(LlavaNextConfig, image_grid_pinpoints=PINPOINTS), tiled_images),
    "mistral_window": Family(
        lambda: llava_config(text={"model_type": "mistral", "sliding_window": WINDOW}), patch_images
    ),
    "qwen2_vl": Family(qwen2_vl_config, qwen_images, image_types("mm_token_type_ids")),
    "paligemma": Family(paligemma_config, patch_images, answer_types),
    "smolvlm": Family(smolvlm_config, image_axis),
    "gemma3": Family(
        lambda: gemma3_config("full_attention", "full_attention"), pooled_images, image_types("token_type_ids")
    ),
    "gemma3_window": Family(
        lambda: gemma3_config("sliding_attention", "full_attention"), pooled_images, image_types("token_type_ids")
    ),
    "mllama": Family(mllama_config, mllama_images, cross_attention),
}


def make_model(family: str, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> PreTrainedModel:
    """A model of the family in evaluation mode, the same at every call.

    `attention` is "sdpa" or "eager"; the latter answers NaN for padding behind a sliding window in float64.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(FAMILIES[family].config(), attn_implementation=attention)
        for parameter in model.parameters():
            if not parameter.any():  # gates and projections that start at zero would hide the images
                torch.nn.init.normal_(parameter, std=0.5)
    return model.to(dtype).eval()


def make_batch(
    family: str, images: Sequence[int] = (1, 2), dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Tensor]:
    """Inputs of the family's model: rows of growing length, padded on the right, with labels on the answers alone.

    Args:
        family (`str`): A key of `FAMILIES`.
        images (sequence of `int`): How many images each row has, at least one.
        dtype (`torch.dtype`): That of `pixel_values`.
        seed (`int`): Chooses the words.
    """
    _, image_source, token_inputs = FAMILIES[family]
    tokens, pixels = image_source(images)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index, row_images in enumerate(tokens):
        words = torch.randint(len(SPECIAL_TOKENS), VOCABULARY, (9 + 3 * index,), generator=generator).tolist()
        # Text before, between and after the images, then the answer.
        prompt = [BOS, *words[:2], *(token for image in row_images for token in (*image, words[2])), *words[3:5]]
        rows.append((prompt, [*words[5:], EOS]))
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {"input_ids": torch.full((len(rows), length), PAD), "labels": torch.full((len(rows), length), -100)}
    for ids, labels, (prompt, answer) in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        end = len(prompt) + len(answer)
        ids[:end] = torch.tensor(prompt + answer)
        labels[len(prompt) : end] = torch.tensor(answer)
    batch["attention_mask"] = (batch["input_ids"] != PAD).long()
    batch |= {**pixels, "pixel_values": pixels["pixel_values"].to(dtype)}
    return batch | token_inputs(batch)
