"""Matches of phrases and regions, computed by hand."""

import pytest
import torch

from compalign.data.components import CaptionComponents, Entity, Relation
from compalign.evaluation.scorers.matches import Match, best_matches, compared, match_captions
from compalign.modeling import ComAlignConfig, ComAlignModel
from compalign.modeling.comalign import ComAlignOutput

ENTITIES = [Entity((0, 0, 4, 4), 1.0, "dog"), Entity((4, 4, 8, 8), 1.0, "ball")]
RELATIONS = [Relation((0, 1), (0, 0, 8, 8), 1.0)]
CAPTION = CaptionComponents("a dog with a ball", ["dog", "ball"], ["dog with a ball"])
ACROSS, DOWN, SLANTED = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]
NOTHING = [0.0, 0.0]


def model(**config):
    """Two entity slots, one relation slot, width 2; its weights play no part."""
    return ComAlignModel(ComAlignConfig(hidden_size=2, num_attention_heads=1, entities=2, relations=1, **config))


def output(image, texts):
    """Embeddings of one image and some captions: two entities and a relation each; rows of zeros are masked."""
    image, texts = torch.tensor([image]), torch.tensor(texts)
    return ComAlignOutput(
        image_components=image,
        text_components=texts,
        image_mask=image.any(dim=-1),
        text_mask=texts.any(dim=-1),
        image_embeds=torch.tensor([ACROSS]),
        text_embeds=torch.tensor([SLANTED] * len(texts)),
    )


def test_each_phrase_gets_its_nearest_region_and_the_parts_make_up_the_score():
    (found,) = match_captions(
        model(), output([ACROSS, DOWN, ACROSS], [[SLANTED, ACROSS, SLANTED]]), [CAPTION], ENTITIES, RELATIONS
    )
    assert found.text == CAPTION.text
    first, second = found.entities.matches
    assert first[:3] == ("dog", 1, (1,))
    assert second[:3] == ("ball", 0, (0,))
    assert [first.cosine, second.cosine] == pytest.approx([0.8, 1.0])
    (pair,) = found.relations.matches
    assert pair[:3] == ("dog with a ball", 0, (0, 1))
    assert pair.cosine == pytest.approx(0.6)
    assert found.whole == pytest.approx(0.6)
    # Each region's best: 1.0 and 0.8; each phrase's best: 0.8 and 1.0.
    assert found.entities.similarity == pytest.approx(0.9)
    assert found.relations.similarity == pytest.approx(0.6)
    assert found.score == pytest.approx((0.6 + 0.9 + 0.6) / 3)


def test_a_role_that_one_side_lacks_takes_no_part():
    lone = CaptionComponents("a dog", ["dog"], [])
    (found,) = match_captions(
        model(), output([ACROSS, DOWN, ACROSS], [[DOWN, NOTHING, NOTHING]]), [lone], ENTITIES, RELATIONS
    )
    assert found.relations == (None, [])
    assert found.score == pytest.approx((0.6 + found.entities.similarity) / 2)


def test_a_phrase_is_never_matched_with_a_masked_region():
    """The masked region would have cosine 0, more than the only real one."""
    away = [-1.0, 0.0]
    (found,) = match_captions(
        model(), output([away, NOTHING, NOTHING], [[ACROSS, DOWN, ACROSS]]), [CAPTION], ENTITIES[:1], []
    )
    assert found.entities.matches == [Match("dog", 0, (0,), -1.0), Match("ball", 0, (0,), 0.0)]
    assert found.relations == (None, [Match("dog with a ball", None, (), None)])
    assert compared(found) == [*found.entities.matches, *found.relations.matches]


def test_without_regions_there_is_nothing_to_compare():
    (found,) = match_captions(model(), output([NOTHING] * 3, [[ACROSS, DOWN, ACROSS]]), [CAPTION], [], [])
    assert found.entities == (None, [Match("dog", None, (), None), Match("ball", None, (), None)])
    assert found.score == found.whole
    assert compared(found) == []


def test_captions_keep_their_order():
    two = [[ACROSS, NOTHING, NOTHING], [DOWN, NOTHING, NOTHING]]
    captions = [CaptionComponents("a dog", ["dog"], []), CaptionComponents("a ball", ["ball"], [])]
    found = match_captions(model(), output([ACROSS, DOWN, ACROSS], two), captions, ENTITIES, RELATIONS)
    assert [caption.entities.matches for caption in found] == [
        [Match("dog", 0, (0,), 1.0)],
        [Match("ball", 1, (1,), 1.0)],
    ]


def test_phrases_beyond_the_slots_are_left_out():
    texts, images = torch.tensor([ACROSS]), torch.tensor([ACROSS, DOWN])
    matches = best_matches(["dog", "ball"], [(0,), (1,)], texts, images, torch.tensor([True, True]))
    assert matches == [Match("dog", 0, (0,), 1.0)]


def test_an_empty_slot_that_takes_part_is_no_region():
    texts, images = torch.tensor([DOWN]), torch.tensor([ACROSS, DOWN])
    assert best_matches(["ball"], [(0,)], texts, images, torch.tensor([True, True])) == [Match("ball", None, (), 1.0)]


def test_another_number_of_captions_is_refused():
    with pytest.raises(ValueError, match="output of 1 images and 1 captions; must be 1 and 2"):
        match_captions(model(), output([ACROSS] * 3, [[ACROSS] * 3]), [CAPTION] * 2, ENTITIES, RELATIONS)
