"""Configuration of ComAlign's heads over a frozen dual encoder."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ComAlignConfig(PreTrainedConfig):
    """Configuration of a [`ComAlignModel`]: the sizes of the heads and the place of their frozen dual encoder.

    Args:
        backbone (`str`, *optional*): Hub id or folder of the frozen dual encoder (CLIP, SigLIP, ...). A folder that
            begins with a dot, such as "../clip", is relative to the folder of the checkpoint. Not needed where the
            model is given cached embeddings only.
        backbone_revision (`str`, *optional*): Commit, branch or tag of the frozen dual encoder.
        hidden_size (`int`): Width of the frozen encoder's embeddings, and of the heads.
        num_hidden_layers (`int`): Transformer layers per head.
        num_attention_heads (`int`): Attention heads per layer; must divide `hidden_size`.
        intermediate_size (`int`, *optional*): Width of a layer's feed-forward part. Default: `hidden_size`.
        dropout (`float`): Dropout probability throughout the heads, in [0, 1).
        layer_norm_eps (`float`): Added to the variance in layer normalisation.
        entities (`int`): Entity slots per image and per caption.
        relations (`int`): Relation slots per image and per caption; they follow the entity slots.
        text_head (`bool`): Whether captions have their own head. Otherwise their frozen embeddings are used.
        residual (`bool`): Whether a head adds its output to the frozen embeddings through a gate that starts at 0, so
            that new heads score like the frozen encoder. Otherwise new heads score at chance.
        mask_padding (`bool`): Whether empty slots are excluded from attention and from every mean.
        logit_scale_init_value (`float`): Logarithm of the first logit scale.
        score (`str`): How the similarities of a pair become one score: "mean" of the global, entity and relation
            similarities, or "released", the published script's weighted sum, which depends on all candidates.

    Raises:
        StrictDataclassFieldValidationError, StrictDataclassClassValidationError: If a value is outside its range.

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206.

    Example:
        >>> from compalign.modeling import ComAlignConfig
        >>> ComAlignConfig(hidden_size=768).intermediate_size
        768
    """

    model_type = "comalign"

    backbone: str | None = None
    backbone_revision: str | None = None
    hidden_size: int = 512
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    dropout: float = 0.1
    layer_norm_eps: float = 1e-5
    entities: int = 10
    relations: int = 10
    text_head: bool = True
    residual: bool = True
    mask_padding: bool = True
    logit_scale_init_value: float = 2.6592
    score: Literal["mean", "released"] = "mean"

    def __post_init__(self, **kwargs: Any):
        if self.intermediate_size is None:
            self.intermediate_size = self.hidden_size
        super().__post_init__(**kwargs)

    @classmethod
    def as_released(cls, **fields: Any) -> "ComAlignConfig":
        """Return the settings of the published checkpoint and script.

        Captions keep their frozen embeddings, the head replaces those of images, empty slots take part in attention and
        in the means, and scores are weighted as in `inference.py`.

        Args:
            fields: Further fields of the configuration, or other values for the four that this sets.
        """
        released = {"text_head": False, "residual": False, "mask_padding": False, "score": "released"}
        return cls(**{**released, **fields})

    def validate_architecture(self):
        """Refuse sizes that do not fit together; called by `@strict`."""
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}"
            )
        if min(self.entities, self.relations) < 0 or self.entities + self.relations == 0:
            raise ValueError(
                f"entities and relations must be 0 or more and not both 0, got {self.entities} and {self.relations}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
