"""What ComAlign's score of a caption rests on: the region that each of its phrases is most like."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.components import CaptionComponents, Entity, Relation
from ..modeling import ComAlignModel
from ..modeling.comalign.modeling_comalign import ComAlignOutput, RoleSimilarity


class Match(NamedTuple):
    """A phrase and the region most like it.

    Args:
        phrase (`str`): Of a caption.
        region (`int` or `None`): Its number among the image's entities, or relations; None where the image has none, or
            where an empty slot is most like the phrase, which only a model with `mask_padding=False` lets happen.
        entities (`tuple[int, ...]`): The entities in the region: one, two for a relation, none without a region.
        cosine (`float` or `None`): Of the two, in [-1, 1]; None where there is nothing to compare with.
    """

    phrase: str
    region: int | None
    entities: tuple[int, ...]
    cosine: float | None


class RoleMatches(NamedTuple):
    """What the entities, or the relations, contribute to a caption's score.

    Args:
        similarity (`float` or `None`): Mean of both directions; None where the image or the caption has none of the
            role.
        matches (`list[Match]`): Of the caption's phrases, as many as the model has slots for.
    """

    similarity: float | None
    matches: list[Match]


class CaptionMatches(NamedTuple):
    """A caption's score with an image, and what it is made of.

    Args:
        text (`str`): The caption.
        score (`float`): Mean of the model's scores in both directions.
        whole (`float`): Cosine of the global embeddings.
        entities, relations (`RoleMatches`): The other parts.
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
        model (`ComAlignModel`): Scores them.
        output (`ComAlignOutput`): Of one image and of the captions, in their order.
        captions (sequence of `CaptionComponents`): With the phrases that fill the slots of `output`.
        entities, relations (sequences of `Entity` and `Relation`): The regions that fill the image's slots; those
            beyond the slots take no part.

    Returns:
        `list[CaptionMatches]`: In the order of the captions. Where `config.score` is "mean", a score is the mean of its
        parts: the cosine of the wholes and the similarities that are not None.

    Raises:
        ValueError: If `output` is of another number of images or captions.
    """
    found = len(output.image_embeds), len(output.text_embeds)
    if found != (1, len(captions)):
        raise ValueError(f"output must be of 1 image and {len(captions)} captions, got {found[0]} and {found[1]}")
    image_to_text, text_to_image = model.score(output)
    scores = (image_to_text[0] + text_to_image[:, 0]) / 2
    wholes = output.text_embeds @ output.image_embeds[0]
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
    """Find the region most like each phrase; of equal ones the first.

    Args:
        phrases (sequence of `str`): Of one role of a caption; those beyond `Q` have no slot and are left out.
        regions (sequence of `tuple[int, ...]`): The entities in each region of this role; slots behind them are empty.
        texts (`torch.Tensor` of shape `(Q, D)`): L2-normalised components of the caption.
        images (`torch.Tensor` of shape `(P, D)`): L2-normalised components of the image.
        mask (`torch.BoolTensor` of shape `(P,)`): Which components of the image take part.

    Returns:
        `list[Match]`: One a phrase.
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
    """Return a caption's matches; none where no phrase had anything to be compared with."""
    matches = [*caption.entities.matches, *caption.relations.matches]
    return matches if any(match.cosine is not None for match in matches) else []


def _role_matches(
    phrases: Sequence[Sequence[str]],
    regions: Sequence[tuple[int, ...]],
    output: ComAlignOutput,
    slots: slice,
    similarity: RoleSimilarity,
) -> list[RoleMatches]:
    """What one role contributes to the score of each caption."""
    means = (similarity.image_to_text[0] + similarity.text_to_image[:, 0]) / 2
    images, mask, texts = output.image_components[0, slots], output.image_mask[0, slots], output.text_components
    captions = zip(phrases, texts[:, slots], means.tolist(), similarity.defined[0].tolist(), strict=True)
    return [
        RoleMatches(mean if defined else None, best_matches(own, regions, text, images, mask))
        for own, text, mean, defined in captions
    ]
