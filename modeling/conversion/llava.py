"""LLaVA-1.5 and LLaVA-NeXT in the layout of their authors' code and in that of transformers."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING

from .open_clip import undoubled, vision_config
from .renames import Plan, Rename, plan_to_ours, plan_to_released, rename_sources, then, tidy_names

TOWER = "model.vision_tower.vision_tower.vision_model."
LLAVA = (
    Rename("model.vision_tower.vision_tower.vision_model.embeddings.position_ids", ()),
    Rename("model.vision_tower.vision_tower.vision_model.{rest}", ("model.vision_tower.{rest}",)),
    Rename("model.mm_projector.0.{kind}", ("model.multi_modal_projector.linear_1.{kind}",)),
    Rename("model.mm_projector.2.{kind}", ("model.multi_modal_projector.linear_2.{kind}",)),
    Rename("model.image_newline", ("model.image_newline",)),
    Rename("model.embed_tokens.weight", ("model.language_model.embed_tokens.weight",)),
    Rename("model.layers.{layer}.self_attn.rotary_emb.inv_freq", ()),
    Rename("model.layers.{rest}", ("model.language_model.layers.{rest}",)),
    Rename("model.norm.weight", ("model.language_model.norm.weight",)),
    Rename("lm_head.weight", ("lm_head.weight",)),
)
# Names on disk in transformers, as patterns, and the names in memory; the first that fits counts.
ON_DISK = (
    (r"language_model\.lm_head\.", "lm_head."),
    (r"language_model\.model\.", "model.language_model."),
    (r"(?:model\.)?vision_tower\.(?:vision_model\.)*", "model.vision_tower."),
    (r"(multi_modal_projector\.|image_newline)", r"model.\1"),
)
# Saved alone, transformers' image tower has no prefix.
TOWER_PARTS = re.compile(r"(?:vision_model\.)?((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+)")
TOKEN_TABLES = ("model.language_model.embed_tokens.weight", "lm_head.weight")
LANGUAGE_MODELS = {"llava": "llama", "llava_llama": "llama", "llava_mistral": "mistral", "llava_qwen": "qwen2"}
VOCABULARY_MULTIPLE = 64  # the width of matrix tiles; LLaVA's 32,002 tokens become 32,064 rows
NEW_ROW_VARIANCE = 1e-5  # of new token rows around the mean of the others, in units of the others' variance


def plan_from_llava(names: Iterable[str]) -> Plan:
    """Plan transformers' LLaVA or LLaVA-NeXT (names in memory) from the names of an original checkpoint.

    Raises:
        ValueError: If some names have no place, which are listed.
    """
    return plan_to_ours(LLAVA, names)


def plan_to_llava(names: Iterable[str]) -> Plan:
    """Plan an original checkpoint from transformers' names, in memory or on disk; undoes `plan_from_llava`.

    Raises:
        ValueError: If some names have no place, which are listed.
    """
    stored = tidy_names(names, name_in_memory)
    return rename_sources(plan_to_released(LLAVA, stored), stored)


def name_in_memory(name: str) -> str:
    """Return the name in memory of a tensor of transformers' LLaVA, whatever its name on disk."""
    for pattern, replacement in ON_DISK:
        name, found = re.subn(f"^{pattern}", replacement, name)
        if found:
            return name
    return name


def vision_tower_names(names: Iterable[str]) -> dict[str, str]:
    """Map original LLaVA names to the stored names of transformers' CLIP, or of its image tower alone.

    Returns:
        `dict[str, str]`: stored name by LLaVA's name.

    Raises:
        ValueError: If there is no image tower.
    """
    stored = undoubled(names)
    tower = {TOWER + match[1]: old for name, old in stored.items() if (match := TOWER_PARTS.fullmatch(name))}
    if not tower:
        raise ValueError(f"there is no image tower of CLIP in transformers' layout among {', '.join(list(stored)[:5])}")
    return tower


def llava_config(
    official: Mapping[str, Any],
    shapes: Mapping[str, Tensor],
    kind: str,
    vision: Mapping[str, Any],
    image_token: int,
    pad_token: int,
) -> dict[str, Any]:
    """Read the fields of transformers' configuration from LLaVA's own.

    Args:
        official (mapping): The `config.json` of the original checkpoint.
        shapes (mapping of `str` to `torch.Tensor`): Tensors that the plan makes; meta tensors suffice.
        kind (`str`): "llava_cal" or "llava_next_cal".
        vision (mapping): Fields of the image tower's `CLIPVisionConfig`.
        image_token (`int`): Id of the image token.
        pad_token (`int`): Id of the padding token.

    Returns:
        `dict`: keyword arguments of the configuration class.

    Raises:
        ValueError: If the model has a part that transformers' LLaVA lacks. The message names the field and the accepted
            values.
    """
    tiled = kind == "llava_next_cal"
    _accept(official, "mm_projector_type", ["mlp2x_gelu"])
    _accept(official, "mm_use_im_start_end", [False, None])
    _accept(official, "mm_patch_merge_type", ["spatial_unpad"] if tiled else ["flat", None])
    _accept(official, "mm_vision_select_feature", ["patch", "cls_patch", None])
    strategy = "full" if official.get("mm_vision_select_feature") == "cls_patch" else "default"
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    fields = {
        "text_config": {**_language_config(official), "vocab_size": shapes[TOKEN_TABLES[0]].shape[0]},
        "vision_config": dict(vision),
        "vision_feature_layer": official.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": strategy,
        "projector_hidden_act": "gelu",
        "image_token_index": image_token,
        "image_seq_length": patches + (strategy == "full"),
        "tie_word_embeddings": bool(official.get("tie_word_embeddings", False)),
    }
    fields["text_config"]["pad_token_id"] = pad_token
    if tiled:
        pinpoints = official.get("image_grid_pinpoints")
        if not isinstance(pinpoints, list):
            raise ValueError(f"image_grid_pinpoints={pinpoints!r}: accepted is a list of [height, width] in pixels")
        fields["image_grid_pinpoints"] = pinpoints
    return fields


def vision_fields(
    official: Mapping[str, Any], shapes: Mapping[str, Tensor], hidden_act: str, heads: int | None
) -> dict[str, Any]:
    """Fields of the image tower's configuration: as written under `vision_config`, or read from shapes."""
    written = official.get("vision_config")
    return (
        {**written, "hidden_act": hidden_act}
        if written
        else vision_config(shapes, "model.vision_tower.", hidden_act, heads)
    )


def extend_vocabulary(plan: Plan, shapes: Mapping[str, Tensor], tokens: int) -> Plan:
    """Add rows for new tokens to the token tables, if they have too few.

    Args:
        plan (`dict[str, Recipe]`): Plan of transformers' LLaVA.
        shapes (mapping of `str` to `torch.Tensor`): Tensors that the plan makes; meta tensors suffice.
        tokens (`int`): Number of tokens, new ones included. A table that grows gets a multiple of
            `VOCABULARY_MULTIPLE` rows.
    """
    if shapes[TOKEN_TABLES[0]].shape[0] >= tokens:
        return plan
    rows = -(-tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    return {**plan, **{name: then(plan[name], partial(with_rows, rows=rows)) for name in TOKEN_TABLES if name in plan}}


def shorten_vocabulary(plan: Plan, rows: int) -> Plan:
    """Undo `extend_vocabulary`: cut the token tables in a plan of an original checkpoint to `rows` rows."""
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    return {**plan, **{name: then(plan[name], lambda table: table[:rows]) for name in tables if name in plan}}


def with_rows(table: Tensor, rows: int) -> Tensor:
    """Append rows drawn around the mean of the others, with a fixed seed.

    Args:
        table (`torch.Tensor` of shape `(old, width)`): Rows of tokens.
        rows (`int`): Rows of the result, >= old.

    Returns:
        `torch.Tensor` of shape `(rows, width)`: the old rows bit for bit, then new ones.
    """
    mean = table.mean(0, dtype=torch.float32)
    square = torch.linalg.vector_norm(table, dim=0, dtype=torch.float32) ** 2 / table.shape[0]
    deviation = (NEW_ROW_VARIANCE * (square - mean**2).clamp(min=0)).sqrt()
    noise = torch.randn(rows - table.shape[0], table.shape[1], generator=torch.Generator().manual_seed(0))
    return torch.cat([table, (mean + deviation * noise.to(table.device)).to(table.dtype)])


def _language_config(official: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the language model in LLaVA's flat configuration."""
    _accept(official, "model_type", list(LANGUAGE_MODELS))
    model_type = LANGUAGE_MODELS[official["model_type"]]
    known = {field.name for field in dataclasses.fields(CONFIG_MAPPING[model_type])} | {"rope_theta", "rope_scaling"}
    own = {name: value for name, value in official.items() if name in known - {"architectures", "dtype"}}
    return {**own, "model_type": model_type}


def _accept(official: Mapping[str, Any], field: str, accepted: list[Any]) -> None:
    """Refuse a model that transformers' LLaVA would run differently."""
    if official.get(field) not in accepted:
        raise ValueError(f"config.json: {field} is {official.get(field)!r}; accepted: {', '.join(map(repr, accepted))}")
