"""CLIP in the layout of OpenAI and open_clip (the DeGLA, CE-CLIP and NegCLIP releases) and in that of transformers."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .renames import Plan, Recipe, Rename, plan_to_ours, plan_to_released, rename_sources, same, then, tidy_names

HEAD_WIDTH = 64
# Image towers of open_clip with wider heads: ViT-H, g, G and e, all with 16 heads.
WIDE_HEADS = {1280: 16, 1408: 16, 1664: 16, 1792: 16}
# Pool at the largest id, as the original does, whatever the vocabulary. Any other value pools at the first occurrence
# of that id: the same only if it is the largest id of a text, and position 0 in a text without it.
POOL_AT_LARGEST_ID = 2
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)*")  # of DistributedDataParallel and torch.compile
DOUBLED = re.compile(r"^(text_model|vision_model)\.\1\.")  # how ZeRO-3 saves
POSITIONS = "vision_model.embeddings.position_embedding.weight"


def _tower(released: str, ours: str) -> tuple[Rename, ...]:
    """Table lines for the transformer blocks of one tower."""
    released, ours = f"{released}.resblocks.{{layer}}", f"{ours}.encoder.layers.{{layer}}"
    projections = tuple(f"{ours}.self_attn.{letter}_proj.{{kind}}" for letter in "qkv")
    return (
        Rename(f"{released}.attn.in_proj_{{kind}}", projections),
        Rename(f"{released}.attn.out_proj.{{kind}}", (f"{ours}.self_attn.out_proj.{{kind}}",)),
        Rename(f"{released}.ln_1.{{kind}}", (f"{ours}.layer_norm1.{{kind}}",)),
        Rename(f"{released}.ln_2.{{kind}}", (f"{ours}.layer_norm2.{{kind}}",)),
        Rename(f"{released}.mlp.c_fc.{{kind}}", (f"{ours}.mlp.fc1.{{kind}}",)),
        Rename(f"{released}.mlp.c_proj.{{kind}}", (f"{ours}.mlp.fc2.{{kind}}",)),
    )


OPEN_CLIP = (
    Rename("visual.conv1.weight", ("vision_model.embeddings.patch_embedding.weight",)),
    Rename("visual.class_embedding", ("vision_model.embeddings.class_embedding",)),
    Rename("visual.positional_embedding", (POSITIONS,)),
    Rename("visual.ln_pre.{kind}", ("vision_model.pre_layrnorm.{kind}",)),
    *_tower("visual.transformer", "vision_model"),
    Rename("visual.ln_post.{kind}", ("vision_model.post_layernorm.{kind}",)),
    Rename("visual.proj", ("visual_projection.weight",), transposed=True),
    Rename("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
    Rename("positional_embedding", ("text_model.embeddings.position_embedding.weight",)),
    *_tower("transformer", "text_model"),
    Rename("ln_final.{kind}", ("text_model.final_layer_norm.{kind}",)),
    Rename("text_projection", ("text_projection.weight",), transposed=True),
    Rename("logit_scale", ("logit_scale",)),
    Rename("attn_mask", ()),
)
# The released layout has no thresholds, and position ids are not weights.
WITHOUT_PLACE = ("rank_threshold", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def plan_from_open_clip(names: Iterable[str]) -> Plan:
    """Plan transformers' CLIP from the names of a checkpoint in open_clip's layout.

    Args:
        names (iterable of `str`): Stored names, with or without the prefixes of wrappers.

    Returns:
        `dict[str, Recipe]`: by name in transformers' layout; sources are stored names.

    Raises:
        ValueError: If the image tower is no vision transformer, or some names have no place, which are listed.
    """
    stored = tidy_names(names, lambda name: WRAPPERS.sub("", name))
    convolutional = [name for name in stored if re.match(r"visual\.(layer\d|attnpool)\.", name)]
    if convolutional:
        raise ValueError(
            f"the image tower is a ModifiedResNet (RN50 and its kin; {convolutional[0]}), for which "
            "transformers' CLIP has no layers: its image tower is a vision transformer"
        )
    return rename_sources(plan_to_ours(OPEN_CLIP, stored), stored)


def plan_to_open_clip(names: Iterable[str], prefix: str = "") -> Plan:
    """Plan a checkpoint in open_clip's layout from the names of transformers' CLIP; undoes `plan_from_open_clip`.

    Args:
        names (iterable of `str`): Stored names; `text_model.text_model.`, as ZeRO-3 saves, is accepted. Names without a
            place in the layout (`WITHOUT_PLACE`) are left out.
        prefix (`str`): Prefix of every name, such as "module.".

    Raises:
        ValueError: If some names have no place, which are listed, or one of q, k and v is missing.
    """
    stored = undoubled(names)
    kept = [name for name in stored if name not in WITHOUT_PLACE]
    plan = rename_sources(plan_to_released(OPEN_CLIP, kept), stored)
    return {prefix + name: recipe for name, recipe in plan.items()}


def plan_within_transformers(names: Iterable[str]) -> Plan:
    """Plan transformers' CLIP from its own names; ZeRO-3 doubles some prefixes."""
    stored = undoubled(names)
    return {name: Recipe((old,), same) for name, old in stored.items() if name not in WITHOUT_PLACE[1:]}


def undoubled(names: Iterable[str]) -> dict[str, str]:
    """Map proper names of transformers' CLIP to stored names."""
    return tidy_names(names, lambda name: DOUBLED.sub(r"\1.", name))


def wrapper_prefix(names: Iterable[str]) -> str:
    """Return the prefix that wrappers put before every name, to be restored on the way back.

    Raises:
        ValueError: If names have different prefixes.
    """
    prefixes = {found.group() for name in names if (found := WRAPPERS.match(name))}
    if len(prefixes) != 1:
        raise ValueError(f"tensors have different prefixes: {', '.join(map(repr, sorted(prefixes)))}")
    return prefixes.pop()


def resize_positions(plan: Plan, shapes: Mapping[str, Tensor], image_size: int) -> Plan:
    """Resize the position embeddings, as open_clip does, so that the image tower takes images of another size.

    Args:
        plan (`dict[str, Recipe]`): Plan of transformers' CLIP.
        shapes (mapping of `str` to `torch.Tensor`): Tensors that the plan makes; meta tensors suffice.
        image_size (`int`): Side in pixels, a multiple of the patch size.

    Raises:
        ValueError: If the size is no multiple of the patch size.
    """
    patch = shapes["vision_model.embeddings.patch_embedding.weight"].shape[-1]
    if image_size <= 0 or image_size % patch:
        raise ValueError(f"image_size must be a multiple of the patch size {patch}, got {image_size}")
    return {**plan, POSITIONS: then(plan[POSITIONS], lambda table: resized_positions(table, image_size // patch))}


def resized_positions(table: Tensor, side: int) -> Tensor:
    """Resize the position embeddings of a square grid; the class token's is unchanged.

    Args:
        table (`torch.Tensor` of shape `(1 + grid**2, width)`): Position embeddings; the class token's is the first row.
        side (`int`): Side of the new grid in patches.

    Returns:
        `torch.Tensor` of shape `(1 + side**2, width)`: bicubic with antialiasing, as in open_clip's resize_pos_embed.
    """
    old = grid_side(table)
    if old == side:
        return table
    grid = table[1:].unflatten(0, (old, old)).permute(2, 0, 1)[None].float()
    grid = interpolate(grid, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])


def grid_side(table: Tensor) -> int:
    """Return the side, in patches, of a position table's grid; the first row is the class token's."""
    side = math.isqrt(table.shape[0] - 1)
    if side**2 != table.shape[0] - 1:
        raise ValueError(f"{table.shape[0] - 1} image positions form no square grid")
    return side


def clip_config(
    shapes: Mapping[str, Tensor], hidden_act: str, vision_heads: int | None = None, text_heads: int | None = None
) -> dict[str, Any]:
    """Read the fields of a `CLIPConfig` from the shapes of its tensors.

    Args:
        shapes (mapping of `str` to `torch.Tensor`): State dict of transformers' CLIP; meta tensors suffice.
        hidden_act (`str`): "quick_gelu" or "gelu"; no shape tells it.
        vision_heads (`int`, *optional*): Attention heads of the image tower; see `heads_of_width`.
        text_heads (`int`, *optional*): Attention heads of the text tower.

    Returns:
        `dict`: keyword arguments of `CLIPConfig`.

    Raises:
        ValueError: If a tensor that determines a size is missing, or the number of heads cannot be inferred.
    """
    tokens = _of(shapes, "text_model.embeddings.token_embedding.weight")
    vocabulary, width = tokens.shape
    projection = _of(shapes, "text_projection.weight").shape[0]
    text = {
        "vocab_size": vocabulary,
        "max_position_embeddings": _of(shapes, "text_model.embeddings.position_embedding.weight").shape[0],
        "bos_token_id": vocabulary - 2,
        "eos_token_id": POOL_AT_LARGEST_ID,
        "pad_token_id": 0,
        "projection_dim": projection,
        "hidden_act": hidden_act,
        **_tower_sizes(shapes, "text_model.", width, heads_of_width(width, text_heads, {}, "text_heads")),
    }
    vision = {**vision_config(shapes, "vision_model.", hidden_act, vision_heads), "projection_dim": projection}
    return {"text_config": text, "vision_config": vision, "projection_dim": projection}


def vision_config(
    shapes: Mapping[str, Tensor], prefix: str, hidden_act: str, heads: int | None = None
) -> dict[str, Any]:
    """Read the fields of a `CLIPVisionConfig` from the shapes of its tensors, whose names begin with `prefix`."""
    patches = _of(shapes, f"{prefix}embeddings.patch_embedding.weight")
    width, channels, patch, _ = patches.shape
    positions = _of(shapes, f"{prefix}embeddings.position_embedding.weight")
    return {
        "num_channels": channels,
        "patch_size": patch,
        "image_size": patch * grid_side(positions),
        "hidden_act": hidden_act,
        **_tower_sizes(shapes, prefix, width, heads_of_width(width, heads, WIDE_HEADS, "vision_heads")),
    }


def heads_of_width(width: int, given: int | None, known: Mapping[int, int], option: str) -> int:
    """Return the number of attention heads, which no shape tells: as given, as known for this width, or width / 64.

    Args:
        width (`int`): Width of the tower.
        given (`int`, *optional*): Number of heads that the user gave.
        known (mapping of `int` to `int`): Number of heads by width, for heads wider than 64.
        option (`str`): Name of the user's option, for errors.

    Raises:
        ValueError: If `given` does not divide the width, or is None and the width is no multiple of 64.
    """
    if given is not None:
        if given <= 0 or width % given:
            raise ValueError(f"{option}={given} does not divide the width {width}")
        return given
    if width not in known and width % HEAD_WIDTH:
        raise ValueError(f"the width {width} is no multiple of {HEAD_WIDTH}: give {option}")
    return known.get(width, width // HEAD_WIDTH)


def _tower_sizes(shapes: Mapping[str, Tensor], prefix: str, width: int, heads: int) -> dict[str, int]:
    """The fields that both towers have."""
    layers = {match.group(1) for name in shapes if (match := re.match(rf"{prefix}encoder\.layers\.(\d+)\.", name))}
    return {
        "hidden_size": width,
        "intermediate_size": _of(shapes, f"{prefix}encoder.layers.0.mlp.fc1.weight").shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
    }


def _of(shapes: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor that must be there."""
    if name not in shapes:
        raise ValueError(f"the checkpoint has no tensor that becomes {name}")
    return shapes[name]
