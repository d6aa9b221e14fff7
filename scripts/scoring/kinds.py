"""The kinds of model that a command accepts, in words."""

from ...modeling.kinds import Kind, kind_of

IN_WORDS = {
    Kind.DUAL_ENCODER: "a dual encoder, such as CLIP",
    Kind.COMALIGN: "ComAlign's heads",
    Kind.IMAGE_TEXT_TO_TEXT: "an image-text-to-text model, such as LLaVA",
    Kind.DETECTOR: "a detector, such as DETR or OWL-ViT",
}


def check_kind(path: str, *accepted: Kind) -> Kind:
    """Find out the kind of a model, and refuse it where the command cannot use it.

    Args:
        path (`str`): Folder or Hub id of a model or an adapter.
        accepted (`Kind`): The kinds that the command can use.

    Returns:
        `Kind`

    Raises:
        ValueError: If it is of another kind; and as `kind_of`.
    """
    kind = kind_of(path)
    if kind not in accepted:
        raise ValueError(f"{path} is {IN_WORDS[kind]}; accepted: {' or '.join(IN_WORDS[each] for each in accepted)}")
    return kind
