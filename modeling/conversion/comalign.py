"""Checkpoints of ComAlign's published code, read and written: one image head as a plain state dict."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..comalign.configuration_comalign import ComAlignConfig
from ..comalign.modeling_comalign import ComAlignModel, position_table
from .renames import Rename, make_tensors, plan_to_ours, plan_to_released

_THEIRS, _OURS = "transformer_encoder_box.layers.{layer}.", "image_head.layers.{layer}."

TABLE = (
    Rename("bottleneck_box.0.{kind}", ("image_head.input_projection.{kind}",)),
    Rename(f"{_THEIRS}self_attn.in_proj_{{kind}}", tuple(f"{_OURS}self_attn.{name}_proj.{{kind}}" for name in "qkv")),
    Rename(f"{_THEIRS}self_attn.out_proj.{{kind}}", (f"{_OURS}self_attn.out_proj.{{kind}}",)),
    Rename(f"{_THEIRS}linear1.{{kind}}", (f"{_OURS}fc1.{{kind}}",)),
    Rename(f"{_THEIRS}linear2.{{kind}}", (f"{_OURS}fc2.{{kind}}",)),
    Rename(f"{_THEIRS}norm1.{{kind}}", (f"{_OURS}layer_norm1.{{kind}}",)),
    Rename(f"{_THEIRS}norm2.{{kind}}", (f"{_OURS}layer_norm2.{{kind}}",)),
)
# A buffer that the model computes itself, and a layer that the published forward never calls.
POSITIONS = "encoder_pos_embedding.positional_encodings"
UNUSED = ("bottleneck_encoder.0.weight", "bottleneck_encoder.0.bias")
# The temperature in training; the published head only ranks, which needs no temperature.
TEMPERATURE = "logit_scale"


def to_transformers(released: Mapping[str, Tensor]) -> tuple[ComAlignConfig, dict[str, Tensor], dict[str, Tensor]]:
    """Convert the published image head.

    Args:
        released (mapping of `str` to `torch.Tensor`): State dict of the published `RetrievalModel`.

    Returns:
        `tuple`: the configuration, with the published settings and `backbone` None; the state dict of a
        [`ComAlignModel`] without `logit_scale`, which the checkpoint lacks; and the tensors that the model does not
        use, to be kept for [`to_released`].

    Raises:
        ValueError: If tensors are unknown or missing, shapes disagree, or the stored positions differ from those that
            the model computes.
    """
    kept = {name: released[name] for name in (POSITIONS, *UNUSED) if name in released}
    weights = {name: tensor for name, tensor in released.items() if name not in kept}
    state = make_tensors(plan_to_ours(TABLE, weights), weights)
    if POSITIONS not in kept or "bottleneck_box.0.weight" not in weights:
        raise ValueError(f"the checkpoint must hold {POSITIONS} and bottleneck_box.0.weight")
    positions = kept[POSITIONS]
    _, slots, width = positions.shape
    layers = {name.split(".")[2] for name in state if name.startswith("image_head.layers.")}
    config = ComAlignConfig.as_released(
        hidden_size=width,
        num_hidden_layers=len(layers),
        intermediate_size=len(weights.get("transformer_encoder_box.layers.0.linear1.bias", positions[0, 0])),
        entities=(slots - 1) // 2,
        relations=slots // 2,
    )
    _check_weights(config, state)
    if not torch.allclose(positions.float(), position_table(slots, width), rtol=1e-5, atol=2e-6):
        raise ValueError(f"{POSITIONS} is not the table that the model computes for {slots} slots of width {width}")
    # The parts of one fused tensor share its memory, which safetensors refuses to write.
    return config, {name: tensor.clone() for name, tensor in state.items()}, kept


def to_released(state: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert back; the inverse of [`to_transformers`], bit for bit.

    Args:
        state (mapping of `str` to `torch.Tensor`): State dict of a [`ComAlignModel`] without a text head. Its logit
            scale is left out: the published layout has no place for it.
        kept (mapping of `str` to `torch.Tensor`): Tensors that `to_transformers` kept.

    Returns:
        `dict[str, torch.Tensor]`: State dict of the published `RetrievalModel`.

    Raises:
        ValueError: If a tensor has no place in the published layout, such as those of a text head, or is missing.
    """
    weights = {name: tensor for name, tensor in state.items() if name != TEMPERATURE}
    if missing := {POSITIONS, *UNUSED} - set(kept):
        raise ValueError(f"the published layout also holds {', '.join(sorted(missing))}, which were not kept")
    return {**make_tensors(plan_to_released(TABLE, weights), weights), **kept}


def _check_weights(config: ComAlignConfig, state: Mapping[str, Tensor]) -> None:
    """Refuse a head that is incomplete or whose sizes do not fit together."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in ComAlignModel(config).state_dict().items()}
    del wanted[TEMPERATURE]
    if missing := sorted(set(wanted) - set(state)):
        raise ValueError(f"the checkpoint lacks {len(missing)} tensors, in our names: {', '.join(missing)}")
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} should be {tuple(shape)}, got {tuple(state[name].shape)}")
