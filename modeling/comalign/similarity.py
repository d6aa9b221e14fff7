"""How ComAlign compares images with texts: the best match of every component, and the scores computed from it.

Shapes: I images, T texts, P and Q components of one role (entities, or relations) of an image and of a text, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Cosines per block where no chunk is given: 64 MiB in single precision. A training batch of 400 is one block.
BLOCK_COSINES = 2**24


def component_similarity(
    image_components: Tensor,
    text_components: Tensor,
    image_mask: Tensor | None = None,
    text_mask: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compare every image with every text by the best match of each component on the other side.

    The I x T x P x Q cosines are computed one block at a time, in training too: with more than one block, the backward
    pass recomputes each block. Values and gradients do not depend on the blocks.

    Args:
        image_components (`torch.Tensor` of shape `(I, P, D)`): L2-normalised components of the images.
        text_components (`torch.Tensor` of shape `(T, Q, D)`): L2-normalised components of the texts.
        image_mask (`torch.Tensor` of shape `(I, P)`, *optional*): 1 where the component exists; the others are ignored.
            Without a mask every component counts: a row of zeros then has cosine 0, as in the paper's figure.
        text_mask (`torch.Tensor` of shape `(T, Q)`, *optional*): The same for the texts.
        chunk (`int`, *optional*): Images and texts per block, >= 1. Default: blocks of at most `BLOCK_COSINES`.

    Returns:
        `tuple`: image-to-text of shape `(I, T)`, the mean over the image's components of their best cosine with the
        text's, and text-to-image of shape `(T, I)`; in [-1, 1]. A pair in which one side has no component is undefined:
        it is 0 in both, without gradient, and [`defined_pairs`] distinguishes it from a cosine of 0.

    Raises:
        ValueError: If shapes disagree or `chunk` is below 1.

    Reference:
        ComAlign, main figure, https://huggingface.co/papers/2409.08206.
    """
    _check_components(image_components, text_components, image_mask, text_mask)
    pair = image_components.shape[1] * text_components.shape[1]  # cosines of one pair
    if pair == 0:
        nothing = image_components.new_zeros(len(image_components), len(text_components))
        return nothing, nothing.T
    if chunk is None:
        chunk = max(1, math.isqrt(BLOCK_COSINES // pair))
    if chunk < 1:
        raise ValueError(f"chunk must be 1 or more, got {chunk}")
    images = _blocks(image_components, image_mask, chunk)
    texts = _blocks(text_components, text_mask, chunk)
    if len(images) == len(texts) == 1:
        return _best_matches(*images[0], *texts[0])
    image_to_text, text_to_image = [], []
    for image in images:
        blocks = [
            checkpoint(_best_matches, *image, *text, use_reentrant=False, preserve_rng_state=False) for text in texts
        ]
        image_to_text.append(torch.cat([block[0] for block in blocks], dim=1))
        text_to_image.append(torch.cat([block[1] for block in blocks], dim=0))
    return torch.cat(image_to_text, dim=0), torch.cat(text_to_image, dim=1)


def defined_pairs(image_mask: Tensor, text_mask: Tensor) -> Tensor:
    """Tell which pairs can be compared by a role: those in which both sides have a component.

    Args:
        image_mask (`torch.Tensor` of shape `(I, P)`): 1 where the component exists.
        text_mask (`torch.Tensor` of shape `(T, Q)`): The same for the texts.

    Returns:
        `torch.BoolTensor` of shape `(I, T)`.
    """
    return image_mask.any(dim=1)[:, None] & text_mask.any(dim=1)


def mean_score(
    global_similarity: Tensor, role_similarities: Sequence[Tensor], role_defined: Sequence[Tensor] | None = None
) -> Tensor:
    """Average the global cosine and the similarities of the roles: the paper's score of a pair.

    Args:
        global_similarity (`torch.Tensor` of shape `(I, T)` or `(T, I)`): Cosines of the global embeddings.
        role_similarities (sequence of `torch.Tensor` of the same shape): One per role, in the same direction.
        role_defined (sequence of `torch.BoolTensor` of the same shape, *optional*): False where a pair lacks the role,
            which is then left out of the pair's mean. Default: every pair has every role.

    Returns:
        `torch.Tensor` of the same shape, in [-1, 1].

    Reference:
        ComAlign, main figure, https://huggingface.co/papers/2409.08206.
    """
    if role_defined is None:
        return (global_similarity + sum(role_similarities)) / (1 + len(role_similarities))
    present = [
        similarity.where(defined, 0.0) for similarity, defined in zip(role_similarities, role_defined, strict=True)
    ]
    return (global_similarity + sum(present)) / (1 + sum(defined.int() for defined in role_defined))


def released_score(
    base: Tensor, head: Tensor, fine_image_to_text: Tensor, fine_text_to_image: Tensor
) -> tuple[Tensor, Tensor]:
    """Combine similarities with the weights of the published script, which were tuned by hand on unstated data.

    Each matrix is first divided by a number that depends on all its entries, so the score of a pair changes with the
    other candidates. It ranks one fixed set and must not be used to compare models on single items.

    Args:
        base (`torch.Tensor` of shape `(I, T)`): Cosines of the frozen encoder's images and texts.
        head (`torch.Tensor` of shape `(I, T)`): Cosines of the image head's globals and the frozen encoder's texts.
        fine_image_to_text (`torch.Tensor` of shape `(I, T)`): Sum over roles of the component similarity.
        fine_text_to_image (`torch.Tensor` of shape `(T, I)`): The same in the other direction.

    Returns:
        `tuple`: scores that rank texts for an image, of shape `(I, T)`, and images for a text, of shape `(T, I)`.

    Reference:
        `inference.py` of https://github.com/aliabdollahi024/ComAlign; not in the paper.
    """
    base, head, fine_image_to_text, fine_text_to_image = (
        similarity / similarity.amax(dim=1).mean().abs()
        for similarity in (base, head, fine_image_to_text, fine_text_to_image)
    )
    image_to_text = 2 * base + 0.06 * fine_image_to_text + 0.06 * head + 0.02 * fine_text_to_image.T
    text_to_image = 10 * base.T + fine_text_to_image + head.T
    return image_to_text, text_to_image


def _blocks(components: Tensor, mask: Tensor | None, chunk: int) -> list[tuple[Tensor, Tensor | None]]:
    """Split one side into blocks of `chunk` items, each with its mask."""
    pieces = components.split(chunk)
    masks = [None] * len(pieces) if mask is None else mask.bool().split(chunk)
    return list(zip(pieces, masks, strict=True))


def _best_matches(
    image: Tensor, image_mask: Tensor | None, text: Tensor, text_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both directions of one block."""
    cosines = torch.einsum("ipd,tqd->itpq", image, text)
    image_to_text = _mean_of_best(cosines, image_mask, text_mask)
    text_to_image = _mean_of_best(cosines.permute(1, 0, 3, 2), text_mask, image_mask)
    return image_to_text, text_to_image


def _mean_of_best(cosines: Tensor, own_mask: Tensor | None, other_mask: Tensor | None) -> Tensor:
    """Mean over a side's components of the best match on the other: `(A, B, own, other) -> (A, B)`."""
    if other_mask is not None:
        cosines = cosines.masked_fill(~other_mask[:, None, :], -torch.inf)
    best = cosines.amax(dim=-1)  # (A, B, own)
    if other_mask is not None:
        best = best.masked_fill(~other_mask.any(dim=1)[:, None], 0.0)
    if own_mask is None:
        return best.mean(dim=-1)
    count = own_mask.sum(dim=1).clamp(min=1)[:, None]
    return best.masked_fill(~own_mask[:, None], 0.0).sum(dim=-1) / count


def _check_components(image: Tensor, text: Tensor, image_mask: Tensor | None, text_mask: Tensor | None) -> None:
    """Refuse shapes that would broadcast to a wrong result."""
    if image.dim() != 3 or text.dim() != 3 or image.shape[-1] != text.shape[-1]:
        raise ValueError(
            "components must be (images, components, dim) and (texts, components, dim), "
            f"got {tuple(image.shape)} and {tuple(text.shape)}"
        )
    for side, components, mask in (("image", image, image_mask), ("text", text, text_mask)):
        if mask is not None and mask.shape != components.shape[:2]:
            raise ValueError(f"{side}_mask must be {tuple(components.shape[:2])}, got {tuple(mask.shape)}")
