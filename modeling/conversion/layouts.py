"""Telling from the names of a checkpoint's tensors whose layout it is in."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# Per layout, what at least one name matches, and what each kind of model that it can become is called.
SIGNS = {
    "open_clip": r"(?:module\.|_orig_mod\.)*(?:transformer\.resblocks\.|visual\.(?:conv1|proj|transformer)\b).*",
    "comalign": r"(?:transformer_encoder_box|bottleneck_box)\..*",
    "llava": r"model\.(?:mm_projector|vision_tower\.vision_tower)\..*",
    "transformers_llava": r"(?:model\.)?multi_modal_projector\..*",
    "transformers_comalign": r"image_head\..*",
    "transformers_clip": r"(?:text_model\.)+(?:embeddings|encoder)\..*",
}
KINDS = {
    "open_clip": ("clip", "degla_clip", "ce_clip"),
    "transformers_clip": ("clip", "degla_clip", "ce_clip"),
    "llava": ("llava_cal", "llava_next_cal"),
    "transformers_llava": ("llava_cal", "llava_next_cal"),
    "comalign": ("comalign",),
    "transformers_comalign": ("comalign",),
}
# A name that only one of a layout's kinds has.
TELLING = {
    r"(?:model\.)?image_newline": "llava_next_cal",
    r"rank_threshold": "ce_clip",
}


class Layout(NamedTuple):
    """What the names say.

    Args:
        name (`str`): A key of `KINDS`.
        kinds (`tuple[str, ...]`): The kinds of model that it can be; one where the names leave no choice.
        seen (`str`): The name that gave it away.
    """

    name: str
    kinds: tuple[str, ...]
    seen: str


def recognise(names: Iterable[str]) -> Layout:
    """Recognise a layout by the names of its tensors.

    Args:
        names (iterable of `str`): As stored.

    Returns:
        `Layout`.

    Raises:
        ValueError: If no layout fits; some of the names are shown.
    """
    names = list(names)
    for layout, sign in SIGNS.items():
        seen = next((name for name in names if re.fullmatch(sign, name)), None)
        if seen is not None:
            kinds, telling = _narrowed(layout, names)
            return Layout(layout, kinds, telling or seen)
    raise ValueError(
        f"the layout is none of {', '.join(KINDS)}; {len(names)} tensors, among them {', '.join(names[:5]) or 'none'}"
    )


def choose_kind(layout: Layout, asked: str | None) -> str:
    """The kind asked for, if the layout can become it, or the only one that it can be.

    Raises:
        ValueError: If the kind asked for is not among them, or none is asked for and there are several.
    """
    accepted = ", ".join(layout.kinds)
    if asked is not None and asked not in layout.kinds:
        raise ValueError(f"kind={asked}: a checkpoint with {layout.seen!r} ({layout.name}) can become {accepted}")
    if asked is None and len(layout.kinds) > 1:
        raise ValueError(
            f"a checkpoint with {layout.seen!r} ({layout.name}) can become {accepted}: say which with kind"
        )
    return asked or layout.kinds[0]


def _narrowed(layout: str, names: list[str]) -> tuple[tuple[str, ...], str | None]:
    """The kinds that are left of a layout's, and the name that settled it."""
    for pattern, kind in TELLING.items():
        seen = next((name for name in names if re.fullmatch(pattern, name)), None)
        if seen is not None and kind in KINDS[layout]:
            return (kind,), seen
    if "llava" in layout:  # the newline between rows of tiles is what LLaVA-NeXT adds
        return ("llava_cal",), None
    return KINDS[layout], None
