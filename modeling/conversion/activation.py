"""Which GELU a CLIP was trained with: no tensor tells, and the wrong one gives slightly wrong features silently."""

from collections.abc import Iterable
from typing import NamedTuple

ACTIVATIONS = ("quick_gelu", "gelu")


class Activation(NamedTuple):
    """An activation (`hidden_act`), and how it is known."""

    value: str
    known_by: str


def find_activation(
    asked: str | None, names: Iterable[str] = (), written: Activation | None = None
) -> Activation | None:
    """Find the activation that was asked for, or that a checkpoint's configuration or names state.

    Args:
        asked (`str`, *optional*): "quick_gelu" or "gelu".
        names (iterable of `str`): What the checkpoint is called, by its file, inside it, or as a pretrained tag. One
            with "quickgelu", as open_clip calls such models, or "openai", whose weights all have QuickGELU, decides. A
            name such as "ViT-B-32" does not: the releases that continue OpenAI's weights are called so too.
        written (`Activation`, *optional*): What a configuration says; it comes before the names.

    Returns:
        `Activation`, or None where nothing states it. Where something else is stated than asked for, it says so.

    Raises:
        ValueError: If another activation is asked for than those two.
    """
    stated = written or _named(names)
    if asked is None:
        return stated
    if asked not in ACTIVATIONS:
        raise ValueError(f"activation={asked}; accepted: {', '.join(ACTIVATIONS)}")
    against = f", against {stated.value} by {stated.known_by}" if stated and stated.value != asked else ""
    return Activation(asked, f"asked for{against}")


def unknown_activation(names: Iterable[str]) -> ValueError:
    """The error for a checkpoint whose activation nothing states."""
    return ValueError(
        f"the activation of {', '.join(map(repr, names))} is not known, and no tensor tells it. Give activation: "
        "quick_gelu (OpenAI's weights, hence the released NegCLIP, CE-CLIP and DeGLA) or gelu (most of open_clip's "
        "own); or a reference with features to compare both with"
    )


def _named(names: Iterable[str]) -> Activation | None:
    """The activation that a name tells."""
    for name in names:
        if sign := next((sign for sign in ("quickgelu", "openai") if sign in name.lower()), None):
            return Activation("quick_gelu", f"{sign!r} in {name!r}")
    return None
