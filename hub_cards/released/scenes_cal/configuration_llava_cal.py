"""Configurations of LLaVA and LLaVA-NeXT trained with CAL: the plain ones, and how visual tokens were weighted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub.dataclasses import as_validated_field, strict
from transformers import LlavaConfig, LlavaNextConfig


@as_validated_field
def clamp_field(bounds: Sequence[int | float]):
    """Accept the lowest and the highest weight of a token."""
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
        raise ValueError(f"must be two numbers, 0 < low <= high, got {bounds}")


@as_validated_field
def window_field(width: int):
    """Accept the width of a window that has a middle."""
    if width < 1 or width % 2 == 0:
        raise ValueError(f"must be an odd number of tokens, 1 or more, got {width}")


@dataclass(kw_only=True, repr=False)
class TokenWeighting:
    """The fields of CAL's token weights, and reading them from where they are not written.

    They describe a training; nothing in a model's forward or in `generate` depends on them.

    Reference:
        CAL, eq. 3 and 4, https://huggingface.co/papers/2405.17871.
    """

    cal_clamp: Sequence[int | float] = clamp_field(default=(1.0, 5.0))
    cal_window: int = window_field(default=3)
    cal_pooling: Literal["supervised", "row", "released"] = "supervised"

    def __post_init__(self, **kwargs: Any):
        super().__post_init__(**kwargs)
        self.cal_clamp = tuple(self.cal_clamp)  # JSON knows lists only

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a saved configuration; the plain model's is a supported start and must not warn of another type."""
        config, unused = super().get_config_dict(*args, **kwargs)
        if config.get("model_type") == cls.model_type.removesuffix("_cal"):
            config["model_type"] = cls.model_type
        return config, unused


@strict
class LlavaCALConfig(TokenWeighting, LlavaConfig):
    """Configuration of a [`LlavaCALForConditionalGeneration`]: the fields of LLaVA's, and CAL's token weights.

    Args:
        cal_clamp (`tuple` of two `float`): Lowest and highest weight of a token, 0 < low <= high.
        cal_window (`int`): Tokens over which weights are averaged, the token itself in the middle; odd, >= 1.
        cal_pooling (`str`): What the window sees: "supervised" (the row's supervised tokens), "row" (all tokens of the
            row) or "released" (all tokens of the flattened batch, as in the released code).

    Raises:
        StrictDataclassFieldValidationError: If a field has a value outside its range, also when it is set later.

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
