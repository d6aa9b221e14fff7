"""The parts of ComAlign's score of a caption: the region that is most similar to each phrase."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ...data.components import CaptionComponents, Entity, Relation
from ...modeling import ComAlignModel
from ...modeling.comalign.modeling_comalign import ComAlignOutput, RoleSimilarity


class Match(NamedTuple):
    """A phrase and the region most similar to it.

    Args:
        phrase (`str`): Phrase of a caption.
        region (`int` or `None`): Number of the region among the image's entities, or relations. `None` if the image has
            no region of this role, or if an empty slot is most similar, which happens only with `mask_padding=False`.
        entities (`tuple[int, ...]`): Numbers of the entities in the region: one, or two for a relation; empty without a
            region.
        cosine (`float` or `None`): Cosine of phrase and region, in [-1, 1]; `None` if the image has no region.
    """

    phrase: str
    region: int | None
    entities: tuple[int, ...]
    cosine: float | None


class RoleMatches(NamedTuple):
    """The contribution of the entities, or of the relations, to a caption's score.

    Args:
        similarity (`float` or `None`): Mean of both directions; `None` if the image or the caption has no component of
            this role.
        matches (`list[Match]`): One match per phrase of the caption, up to the number of the model's slots.
    """

    similarity: float | None
    matches: list[Match]


class CaptionMatches(NamedTuple):
    """A caption's score with an image, and its parts.

    Args:
        text (`str`): The caption.
        score (`float`): Mean of the model's scores in both directions.
        whole (`float`): Cosine of the global embeddings.
        entities, relations (`RoleMatches`): Contribution of the entities, and of the relations.
    """

    text: str
    score: float
    whole: float
    entities: RoleMatches
    relations: RoleMatches


@torch.inference_mode()
def match_captions(
    model: ComAlignModel,
    output: ComAlignOutput,
    captions: Sequence[CaptionComponents],
    entities: Sequence[Entity],
    relations: Sequence[Relation],
) -> list[CaptionMatches]:
    """Explain the scores of captions with one image.

    Args:
        model (`ComAlignModel`): The model that scores them.
        output (`ComAlignOutput`): Its output for one image and for the captions, in their order.
        captions (sequence of `CaptionComponents`): The captions, with the phrases that fill the slots of `output`.
        entities, relations (sequences of `Entity` and `Relation`): The regions that fill the image's slots. Regions
            beyond the slots are ignored.

    Returns:
        `list[CaptionMatches]`: Aligned with the captions. If `config.score` is "mean", a score is the mean of its
        parts: the cosine of the global embeddings, and the similarities that are not `None`.

    Raises:
        ValueError: If `output` has more than one image, or another number of captions.
    """
    image_embeds, text_embeds = cast(Tensor, output.image_embeds), cast(Tensor, output.text_embeds)
    found = len(image_embeds), len(text_embeds)
    if found != (1, len(captions)):
        raise ValueError(f"output of {found[0]} images and {found[1]} captions; must be 1 and {len(captions)}")
    image_to_text, text_to_image = model.score(output)
    scores = (image_to_text[0] + text_to_image[:, 0]) / 2
    wholes = text_embeds @ image_embeds[0]
    first = model.config.entities
    of_entities, of_relations = model.role_similarities(output)
    roles = (
        _role_matches(
            [caption.entities for caption in captions],
            [(index,) for index in range(len(entities))],
            output,
            slice(first),
            of_entities,
        ),
        _role_matches(
            [caption.relations for caption in captions],
            [relation.pair for relation in relations],
            output,
            slice(first, None),
            of_relations,
        ),
    )
    return [
        CaptionMatches(caption.text, *parts)
        for caption, *parts in zip(captions, scores.tolist(), wholes.tolist(), *roles, strict=True)
    ]


def best_matches(
    phrases: Sequence[str], regions: Sequence[tuple[int, ...]], texts: Tensor, images: Tensor, mask: Tensor
) -> list[Match]:
    """Find the region most similar to each phrase; among equal ones the first.

    Args:
        phrases (sequence of `str`): Phrases of one role of a caption. Phrases beyond `Q` have no slot and are left out.
        regions (sequence of `tuple[int, ...]`): The entities in each region of this role. Further slots are empty.
        texts (`torch.Tensor` of shape `(Q, D)`): L2-normalised components of the caption.
        images (`torch.Tensor` of shape `(P, D)`): L2-normalised components of the image.
        mask (`torch.BoolTensor` of shape `(P,)`): False for components of the image that are not compared.

    Returns:
        `list[Match]`: One match per phrase.
    """
    phrases = phrases[: len(texts)]
    if not mask.any():
        return [Match(phrase, None, (), None) for phrase in phrases]
    cosines = (texts[: len(phrases)] @ images.T).masked_fill(~mask, -torch.inf)
    best, slots = cosines.max(dim=1)
    return [
        Match(phrase, slot, regions[slot], cosine) if slot < len(regions) else Match(phrase, None, (), cosine)
        for phrase, slot, cosine in zip(phrases, slots.tolist(), best.tolist(), strict=True)
    ]


def compared(caption: CaptionMatches) -> list[Match]:
    """Return a caption's matches; the list is empty if no phrase could be compared with a region."""
    matches = [*caption.entities.matches, *caption.relations.matches]
    return matches if any(match.cosine is not None for match in matches) else []


def _role_matches(
    phrases: Sequence[Sequence[str]],
    regions: Sequence[tuple[int, ...]],
    output: ComAlignOutput,
    slots: slice,
    similarity: RoleSimilarity,
) -> list[RoleMatches]:
    """Compute the contribution of one role to the score of each caption."""
    means = (similarity.image_to_text[0] + similarity.text_to_image[:, 0]) / 2
    images, mask = cast(Tensor, output.image_components)[0, slots], cast(Tensor, output.image_mask)[0, slots]
    texts = cast(Tensor, output.text_components)[:, slots]
    captions = zip(phrases, texts, means.tolist(), similarity.defined[0].tolist(), strict=True)
    return [
        RoleMatches(mean if defined else None, best_matches(own, regions, text, images, mask))
        for own, text, mean, defined in captions
    ]
