"""Configuration of ComAlign's heads over a frozen dual encoder."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ComAlignConfig(PreTrainedConfig):
    """Configuration of a [`ComAlignModel`]: the heads' sizes, and where their frozen dual encoder is found.

    Args:
        backbone (`str`, *optional*): Hub id or folder of the frozen dual encoder (CLIP, SigLIP, ...). A folder that
            begins with a dot, such as "../clip", is looked for from the folder that the checkpoint was loaded from.
            None where only cached embeddings are ever given.
        backbone_revision (`str`, *optional*): Its commit, branch or tag.
        hidden_size (`int`): Width of the frozen encoder's embeddings, and of the heads.
        num_hidden_layers (`int`): Transformer layers of a head.
        num_attention_heads (`int`): Attention heads of a layer; divides `hidden_size`.
        intermediate_size (`int`, *optional*): Width of a layer's feed-forward part. Default: `hidden_size`.
        dropout (`float`): Probability in [0, 1), everywhere in the heads.
        layer_norm_eps (`float`): Added to the variance in layer normalisation.
        entities (`int`): Entity slots of an image and of a caption.
        relations (`int`): Relation slots of an image and of a caption; they follow the entity slots.
        text_head (`bool`): Whether captions have a head of their own; without one their frozen embeddings are used.
        residual (`bool`): Whether a head adds what it learns to the frozen embeddings, starting from nothing: new heads
            then score as the frozen encoder does. Without it they begin at chance.
        mask_padding (`bool`): Whether empty slots are hidden from attention and left out of every mean.
        logit_scale_init_value (`float`): Logarithm of the first logit scale.
        score (`str`): How the similarities of a pair become one number: "mean" of global, entities and relations, or
            "released", the published script's weighted sum, which depends on all candidates.

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

        Captions keep their frozen embeddings, the head replaces those of images, empty slots are attended to and count
        in the means, and scores are weighted as in `inference.py`.

        Args:
            fields: Other fields of the configuration, or other values of these four.
        """
        released = {"text_head": False, "residual": False, "mask_padding": False, "score": "released"}
        return cls(**{**released, **fields})

    def validate_architecture(self):
        """Refuse sizes that no head can have; `@strict` calls it."""
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
