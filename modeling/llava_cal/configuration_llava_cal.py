"""Configurations of LLaVA and LLaVA-NeXT trained with CAL: the plain models' fields and those of the token weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub.dataclasses import as_validated_field, strict
from transformers import LlavaConfig, LlavaNextConfig


@as_validated_field
def clamp_field(bounds: Sequence[int | float]):
    """Accept the lowest and highest token weight."""
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
        raise ValueError(f"must be two numbers, 0 < low <= high, got {bounds}")


@as_validated_field
def window_field(width: int):
    """Accept an odd window width."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"must be an odd number of tokens, 1 or more, got {width}")


@dataclass(kw_only=True, repr=False)
class TokenWeighting:
    """The fields of CAL's token weights. A plain model's configuration, which lacks them, is read too.

    They record how the model was trained. Neither `forward` nor `generate` depends on them.

    Reference:
        CAL, eq. 3 and 4, https://huggingface.co/papers/2405.17871.
    """

    cal_clamp: Sequence[int | float] = clamp_field(default=(1.0, 5.0))
    cal_window: int = window_field(default=3)
    cal_pooling: Literal["supervised", "row", "released"] = "supervised"

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        self.cal_clamp = tuple(self.cal_clamp)  # JSON has lists only

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a saved configuration. Starting from the plain model is supported and must not warn about its type."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == cls.model_type.removesuffix("_cal"):
            config["model_type"] = cls.model_type
        return config, unused


@strict
class LlavaCALConfig(TokenWeighting, LlavaConfig):
    """Configuration of a [`LlavaCALForConditionalGeneration`]: LLaVA's fields and CAL's token weights.

    Args:
        cal_clamp (`tuple` of two `float`): Lowest and highest token weight, 0 < low <= high.
        cal_window (`int`): Width, in tokens, of the centred window over which weights are averaged; odd, >= 1.
        cal_pooling (`str`): Tokens that the window averages: "supervised" (the row's supervised tokens), "row" (all
            tokens of the row) or "released" (all tokens of the flattened batch, as in the released code).

    Raises:
        StrictDataclassFieldValidationError: If a field is given, or later set to, a value outside its range.

    Example:
        >>> from compalign.modeling import LlavaCALConfig
        >>> LlavaCALConfig(cal_window=1).cal_clamp
        (1.0, 5.0)
    """

    model_type = "llava_cal"


@strict
class LlavaNextCALConfig(TokenWeighting, LlavaNextConfig):
    """Configuration of a [`LlavaNextCALForConditionalGeneration`]: see [`LlavaCALConfig`]."""

    model_type = "llava_next_cal"
