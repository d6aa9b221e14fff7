"""Recognising the layout of a checkpoint by the names of its tensors."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# For each layout, a pattern that at least one name matches, and the kinds of model that it can become.
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
# Names that only one of a layout's kinds has.
TELLING = {
    r"(?:model\.)?image_newline": "llava_next_cal",
    r"rank_threshold": "ce_clip",
}


class Layout(NamedTuple):
    """A recognised layout.

    Args:
        name (`str`): A key of `KINDS`.
        kinds (`tuple[str, ...]`): Kinds of model that the checkpoint can become; one if the names leave no choice.
        seen (`str`): The name by which the layout was recognised.
    """

    name: str
    kinds: tuple[str, ...]
    seen: str


def recognise(names: Iterable[str]) -> Layout:
    """Recognise a layout by the names of its tensors.

    Args:
        names (iterable of `str`): Stored names.

    Returns:
        `Layout`.

    Raises:
        ValueError: If no layout fits. The message shows some of the names.
    """
    names = list(names)
    for layout, sign in SIGNS.items():
        seen = next((name for name in names if re.fullmatch(sign, name)), None)
        if seen is not None:
            kinds, telling = _narrowed(layout, names)
            return Layout(layout, kinds, telling or seen)
    raise ValueError(
        f"unknown layout; accepted: {', '.join(KINDS)}. The checkpoint holds {len(names)} tensors"
        + (f", among them {', '.join(names[:5])}" if names else "")
    )


def choose_kind(layout: Layout, asked: str | None) -> str:
    """Return the kind asked for, or the only kind that the layout can become.

    Raises:
        ValueError: If the layout cannot become the kind asked for, or can become several and `asked` is None.
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
    """The remaining kinds of a layout, and the name that decided it."""
    for pattern, kind in TELLING.items():
        seen = next((name for name in names if re.fullmatch(pattern, name)), None)
        if seen is not None and kind in KINDS[layout]:
            return (kind,), seen
    if "llava" in layout:  # LLaVA-NeXT adds a newline between rows of tiles
        return ("llava_cal",), None
    return KINDS[layout], None
