"""ComAlign: light heads over a frozen dual encoder that align entities and relations of images and captions.

Shapes: B images, T captions, P and Q their component slots (entities first, then relations), D embedding width,
S = P + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, initialization
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_comalign import ComAlignConfig
from .similarity import component_similarity, defined_pairs, mean_score, released_score


@dataclass
class ComAlignOutput(ModelOutput):
    """Output of [`ComAlignModel`]; the fields of a side that was not given are None.

    Args:
        image_components (`torch.Tensor` of shape `(B, P, D)`): L2-normalised; zero where masked.
        text_components (`torch.Tensor` of shape `(T, Q, D)`): L2-normalised; zero where masked.
        image_mask (`torch.BoolTensor` of shape `(B, P)`): Which components take part in a comparison.
        text_mask (`torch.BoolTensor` of shape `(T, Q)`): The same for the captions.
        image_embeds (`torch.Tensor` of shape `(B, D)`): The head's global embeddings, L2-normalised.
        text_embeds (`torch.Tensor` of shape `(T, D)`): The same for the captions; the frozen ones without a text head.
        base_image_embeds (`torch.Tensor` of shape `(B, D)`): The frozen encoder's embeddings, L2-normalised.
        base_text_embeds (`torch.Tensor` of shape `(T, D)`): The same for the captions.
        logit_scale (`torch.Tensor` of shape `()`): Multiplier of the similarities, > 0. Not its logarithm.
    """

    image_components: Tensor | None = None
    text_components: Tensor | None = None
    image_mask: Tensor | None = None
    text_mask: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    base_image_embeds: Tensor | None = None
    base_text_embeds: Tensor | None = None
    logit_scale: Tensor | None = None


class RoleSimilarity(NamedTuple):
    """Similarities of one role, `(B, T)` and `(T, B)`, and a mask `(B, T)` of the pairs that can be compared by it."""

    image_to_text: Tensor
    text_to_image: Tensor
    defined: Tensor


def position_table(slots: int, width: int) -> Tensor:
    """Compute the constant table of positions that distinguishes the slots of a head.

    Unlike the usual table it has one frequency per channel instead of one per two channels. The exponent therefore runs
    to 2, and the second half of the channels hardly changes from slot to slot. The first half suffices to distinguish a
    few dozen slots, and the published weights require this table.

    Args:
        slots (`int`): Number of slots: entities, relations and the global embedding.
        width (`int`): Embedding width.

    Returns:
        `torch.Tensor` of shape `(1, slots, width)`, float32, equal to the published code's in every bit.
    """
    channel = torch.arange(width)
    angle = torch.arange(slots)[:, None] / 10000 ** (2 * channel / width)
    return torch.where(channel % 2 == 0, angle.cos(), angle.sin())[None]


class SelfAttention(nn.Module):
    """Multi-head self-attention of a head's layer."""

    def __init__(self, config: ComAlignConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Let every slot attend to the visible slots: `(B, S, D), (B, S) -> (B, S, D)`."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, S, D / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, visible[:, None, None], dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """A transformer layer that normalises after each residual sum, as in the original transformer."""

    def __init__(self, config: ComAlignConfig):
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Transform all slots: `(B, S, D), (B, S) -> (B, S, D)`."""
        hidden = self.layer_norm1(hidden + self.dropout(self.self_attn(hidden, visible)))
        feed_forward = self.fc2(self.dropout(F.relu(self.fc1(hidden))))
        return self.layer_norm2(hidden + self.dropout(feed_forward))


class ComponentEncoder(nn.Module):
    """A head: self-attention among the components and the global embedding of an image, or of a caption."""

    def __init__(self, config: ComAlignConfig):
        super().__init__()
        self.input_projection = nn.Linear(config.hidden_size, config.hidden_size)
        table = position_table(config.entities + config.relations + 1, config.hidden_size)
        self.register_buffer("position_table", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.gate = nn.Parameter(torch.zeros(config.hidden_size)) if config.residual else None

    def forward(self, components: Tensor, global_embedding: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            components (`torch.Tensor` of shape `(B, P, D)`): Frozen embeddings, not normalised.
            global_embedding (`torch.Tensor` of shape `(B, D)`): Frozen embedding of the whole, not normalised.
            mask (`torch.BoolTensor` of shape `(B, P)`): False for components that are hidden from attention.

        Returns:
            `tuple`: components of shape `(B, P, D)`, 0 where masked, and global embeddings `(B, D)`; not normalised.
        """
        frozen = torch.cat([components, global_embedding[:, None]], dim=1)  # (B, S, D)
        positions = self.position_table.to(frozen.dtype)  # DeepSpeed leaves buffers in float32
        hidden = self.dropout(F.relu(self.input_projection(frozen)) + positions)
        visible = F.pad(mask, (0, 1), value=True)  # (B, S): the global slot is always visible, so no softmax is empty
        for layer in self.layers:
            hidden = layer(hidden, visible)
        if self.gate is not None:
            hidden = frozen + self.gate * hidden
        return hidden[:, :-1].masked_fill(~mask[..., None], 0.0), hidden[:, -1]


class ComAlignModel(PreTrainedModel):
    """An image head and, by default, a text head over the embeddings of a frozen dual encoder.

    The frozen encoder is named in the configuration and is not part of the model: no checkpoint holds it, and its
    weights are not among the parameters. It is loaded when pixels or tokens are first passed in; cached embeddings do
    not need it.

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206.
    """

    config: ComAlignConfig
    base_model_prefix = "comalign"
    main_input_name = "image_components"

    def __init__(self, config: ComAlignConfig):
        super().__init__(config)
        self.image_head = ComponentEncoder(config)
        self.text_head = ComponentEncoder(config) if config.text_head else None
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Preserve the variance of a linear layer's input at any width; recompute what is not saved."""
        if isinstance(module, nn.Linear):
            initialization.normal_(module.weight, std=module.in_features**-0.5)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, ComponentEncoder):
            if module.gate is not None:
                initialization.zeros_(module.gate)
            initialization.copy_(module.position_table, position_table(*module.position_table.shape[1:]))
        elif module is self:
            initialization.constant_(module.logit_scale, self.config.logit_scale_init_value)

    # Stored in the instance's dictionary, not registered as a submodule: so it stays out of state_dict().
    @cached_property
    def backbone(self) -> PreTrainedModel:
        """The frozen dual encoder, loaded on first use."""
        if self.config.backbone is None:
            raise ValueError(
                "config.backbone is None, so pixels and tokens cannot be embedded; set it to the Hub id or folder of "
                "the frozen dual encoder, or give image_components, image_global, text_components and text_global"
            )
        place = _from_checkpoint(self.config.backbone, self.config.name_or_path)
        backbone = AutoModel.from_pretrained(place, revision=self.config.backbone_revision)
        return backbone.eval().requires_grad_(False)

    @torch.no_grad()
    def get_image_features(self, pixel_values: Tensor) -> ModelOutput:
        """Embed images or regions with the frozen encoder; `pooler_output` of its output has shape `(N, D)`."""
        backbone = self.backbone.to(self.device)
        return backbone.get_image_features(pixel_values=pixel_values.to(backbone.dtype))

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> ModelOutput:
        """Embed captions or phrases with the frozen encoder; `pooler_output` of its output has shape `(N, D)`."""
        backbone = self.backbone.to(self.device)
        return backbone.get_text_features(input_ids=input_ids, attention_mask=attention_mask)

    @can_return_tuple
    def forward(
        self,
        image_components: Tensor | None = None,
        image_global: Tensor | None = None,
        image_mask: Tensor | None = None,
        text_components: Tensor | None = None,
        text_global: Tensor | None = None,
        text_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        region_pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        phrase_input_ids: Tensor | None = None,
        phrase_attention_mask: Tensor | None = None,
    ) -> ComAlignOutput:
        """Embed images, captions or both; each side comes from cached embeddings, or from pixels or tokens.

        Args:
            image_components (`torch.Tensor` of shape `(B, P, D)`): Frozen embeddings of the regions, not normalised.
            image_global (`torch.Tensor` of shape `(B, D)`): Frozen embeddings of the images, not normalised.
            image_mask (`torch.Tensor` of shape `(B, P)`, *optional*): 1 where the slot holds a region. Default: all 1.
            text_components (`torch.Tensor` of shape `(T, Q, D)`): Frozen embeddings of the phrases, not normalised.
            text_global (`torch.Tensor` of shape `(T, D)`): Frozen embeddings of the captions, not normalised.
            text_mask (`torch.Tensor` of shape `(T, Q)`, *optional*): 1 where the slot holds a phrase. Default: all 1.
            pixel_values (`torch.Tensor` of shape `(B, 3, height, width)`): Images, instead of embeddings.
            region_pixel_values (`torch.Tensor` of shape `(B, P, 3, height, width)`): Their regions.
            input_ids (`torch.LongTensor` of shape `(T, L)`): Captions, instead of embeddings.
            attention_mask (`torch.Tensor` of shape `(T, L)`, *optional*): 1 for tokens, 0 for padding.
            phrase_input_ids (`torch.LongTensor` of shape `(T, Q, M)`): Their phrases.
            phrase_attention_mask (`torch.Tensor` of shape `(T, Q, M)`, *optional*): 1 for tokens, 0 for padding.

        Returns:
            [`ComAlignOutput`], or a tuple of its fields that are not None with `return_dict=False`.

        Raises:
            ValueError: If both sides are missing, one side is incomplete or given twice, or shapes disagree; or if
                pixels or tokens are given and `config.backbone` is None.
        """
        image_cached = {"image_components": image_components, "image_global": image_global}
        image_raw = {"pixel_values": pixel_values, "region_pixel_values": region_pixel_values}
        text_cached = {"text_components": text_components, "text_global": text_global}
        text_raw = {"input_ids": input_ids, "phrase_input_ids": phrase_input_ids}
        has_image, has_text = _is_given(image_cached, image_raw), _is_given(text_cached, text_raw)
        if not has_image and not has_text:
            raise ValueError("forward needs images, captions or both, got neither")
        if pixel_values is not None:
            image_components, image_global = _embed(
                self.get_image_features,
                {"pixel_values": pixel_values},
                {"pixel_values": region_pixel_values},
                image_mask,
            )
        if input_ids is not None:
            text_components, text_global = _embed(
                self.get_text_features,
                {"input_ids": input_ids, "attention_mask": attention_mask},
                {"input_ids": phrase_input_ids, "attention_mask": phrase_attention_mask},
                text_mask,
            )
        image = self._align("image", image_components, image_global, image_mask) if has_image else {}
        text = self._align("text", text_components, text_global, text_mask) if has_text else {}
        return ComAlignOutput(**image, **text, logit_scale=self.logit_scale.exp())

    def score(self, output: ComAlignOutput, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Score every image with every caption by the rule of `config.score`.

        Args:
            output ([`ComAlignOutput`]): Both sides, in any numbers; outputs of several batches may be concatenated.
            chunk (`int`, *optional*): See [`component_similarity`].

        Returns:
            `tuple`: image-to-text scores of shape `(B, T)` and text-to-image scores of shape `(T, B)`.
        """
        roles = self.role_similarities(output, chunk)
        if self.config.score == "released":
            base = output.base_image_embeds @ output.base_text_embeds.T
            head = output.image_embeds @ output.base_text_embeds.T
            fine = [sum(role[direction] for role in roles) for direction in (0, 1)]
            return released_score(base, head, *fine)
        cosine = output.image_embeds @ output.text_embeds.T
        return (
            mean_score(cosine, [role.image_to_text for role in roles], [role.defined for role in roles]),
            mean_score(cosine.T, [role.text_to_image for role in roles], [role.defined.T for role in roles]),
        )

    def role_similarities(self, output: ComAlignOutput, chunk: int | None = None) -> list[RoleSimilarity]:
        """Compare every image with every caption by their entities and by their relations.

        Args:
            output, chunk: As in `score`.

        Returns:
            `list[RoleSimilarity]`: For entities, then for relations.
        """
        roles = []
        for role in (slice(self.config.entities), slice(self.config.entities, None)):
            masks = output.image_mask[:, role], output.text_mask[:, role]
            components = output.image_components[:, role], output.text_components[:, role]
            roles.append(RoleSimilarity(*component_similarity(*components, *masks, chunk), defined_pairs(*masks)))
        return roles

    def _align(self, side: str, components: Tensor, whole: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The fields of the output for one side."""
        slots, width = self.config.entities + self.config.relations, self.config.hidden_size
        mask = _slots(components) if mask is None else mask.bool()
        count = len(whole)
        if (components.shape, whole.shape, mask.shape) != ((count, slots, width), (count, width), (count, slots)):
            raise ValueError(
                f"{side}_components, {side}_global and {side}_mask must be (N, {slots}, {width}), (N, {width}) and "
                f"(N, {slots}), got {tuple(components.shape)}, {tuple(whole.shape)} and {tuple(mask.shape)}"
            )
        if not self.config.mask_padding:
            mask = torch.ones_like(mask)
        # Masks hide by multiplying with 0, which would let a NaN in an empty slot through.
        components = components.to(self.dtype).masked_fill(~mask[..., None], 0.0)
        whole = whole.to(self.dtype)
        base = _unit(whole)
        head = self.image_head if side == "image" else self.text_head
        if head is not None:
            components, whole = head(components, whole, mask)
        return {
            f"{side}_components": _unit(components),
            f"{side}_mask": mask,
            f"{side}_embeds": _unit(whole),
            f"base_{side}_embeds": base,
        }


def _from_checkpoint(backbone: str, checkpoint: str) -> str:
    """Place of a backbone; a folder that begins with a dot is relative to the checkpoint, so both can move together."""
    if not backbone.startswith("."):
        return backbone
    place = Path(checkpoint, backbone)
    if not place.is_dir():
        raise ValueError(
            f"config.backbone is {backbone!r}, and there is no folder {place}; load the heads with "
            "from_pretrained(..., backbone=...) and the Hub id or folder of their frozen dual encoder"
        )
    return str(place)


def _is_given(cached: dict[str, Tensor | None], raw: dict[str, Tensor | None]) -> bool:
    """Tell whether a side is given; refuse a side that is incomplete or given twice."""
    given = {name for name, value in (cached | raw).items() if value is not None}
    if given not in (set(), set(cached), set(raw)):
        accepted = " or ".join(" and ".join(names) for names in (cached, raw))
        raise ValueError(f"one side needs {accepted}, got {', '.join(sorted(given))}")
    return bool(given)


def _embed(
    embed: Callable[..., ModelOutput],
    whole: dict[str, Tensor | None],
    parts: dict[str, Tensor | None],
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Embed images with their regions, or captions with their phrases; empty slots become zeros and cost nothing."""
    whole, parts = ({name: value for name, value in inputs.items() if value is not None} for inputs in (whole, parts))
    whole_embeds = embed(**whole).pooler_output  # (N, D)
    mask = _slots(next(iter(parts.values()))) if mask is None else mask.bool()
    components = whole_embeds.new_zeros(*mask.shape, whole_embeds.shape[-1])  # (N, P, D)
    if mask.any():
        components[mask] = embed(**{name: value[mask] for name, value in parts.items()}).pooler_output
    return components, whole_embeds


def _slots(parts: Tensor) -> Tensor:
    """A mask `(N, P)` in which every slot is filled."""
    return torch.ones(parts.shape[:2], dtype=torch.bool, device=parts.device)


def _unit(embeddings: Tensor) -> Tensor:
    """L2-normalise; zeros stay zeros, in half precision too, where a smaller eps would be 0."""
    return F.normalize(embeddings, dim=-1, eps=1e-6)
