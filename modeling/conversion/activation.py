"""The GELU that a CLIP was trained with: no tensor tells it, and the wrong one silently changes the features."""

from collections.abc import Iterable
from typing import NamedTuple

ACTIVATIONS = ("quick_gelu", "gelu")


class Activation(NamedTuple):
    """An activation (`hidden_act`) and its evidence."""

    value: str
    known_by: str


def find_activation(
    asked: str | None, names: Iterable[str] = (), written: Activation | None = None
) -> Activation | None:
    """Find the activation that was asked for, or that a checkpoint's configuration or names state.

    Args:
        asked (`str`, *optional*): "quick_gelu" or "gelu".
        names (iterable of `str`): Names of the checkpoint: of its file, inside it, or as a pretrained tag. A name
            decides if it contains "quickgelu", as in open_clip's names, or "openai", whose weights all have QuickGELU.
            "ViT-B-32" does not: releases that continue OpenAI's weights have this name too.
        written (`Activation`, *optional*): Activation in a configuration; takes precedence over the names.

    Returns:
        `Activation`, or None if nothing states it. If another activation is stated than was asked for, it says so.

    Raises:
        ValueError: If `asked` is neither of the two.
    """
    stated = written or _named(names)
    if asked is None:
        return stated
    if asked not in ACTIVATIONS:
        raise ValueError(f"activation={asked}; accepted: {', '.join(ACTIVATIONS)}")
    against = f", against {stated.value} by {stated.known_by}" if stated and stated.value != asked else ""
    return Activation(asked, f"asked for{against}")


def unknown_activation(names: Iterable[str]) -> ValueError:
    """The error for a checkpoint that does not state its activation."""
    return ValueError(
        f"the activation of {', '.join(map(repr, names))} is not known, and no tensor tells it. Give activation: "
        "quick_gelu (OpenAI's weights, hence the released NegCLIP, CE-CLIP and DeGLA) or gelu (most of open_clip's own "
        "weights); or give a reference with features to compare with"
    )


def _named(names: Iterable[str]) -> Activation | None:
    """The activation that a name states."""
    for name in names:
        if sign := next((sign for sign in ("quickgelu", "openai") if sign in name.lower()), None):
            return Activation("quick_gelu", f"{sign!r} in {name!r}")
    return None
