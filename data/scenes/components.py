"""The parts of a scene and of what is said of it, entities and relations, with phrases and boxes."""

import random
from itertools import combinations
from typing import Any, NamedTuple

from ..components.boxes import enclosing, relation_regions
from ..components.rows import CaptionComponents
from ..components.rows import Entity as Region
from ..components.text import extract
from .captions import RELATION_WORDINGS, Caption, full_caption
from .dataset import WebSceneDataset, sample_negatives
from .graph import RELATIONS, Box, Scene, generate_scene, related
from .render import render


class Entity(NamedTuple):
    """A noun phrase and its box in pixels, (left, top, right, bottom), the far edge excluded."""

    phrase: str
    box: Box


class Relation(NamedTuple):
    """A phrase that relates two entities (`subject` and `object` are their indices) and the box around both."""

    phrase: str
    subject: int
    object: int
    box: Box


class Components(NamedTuple):
    """What a scene is made of."""

    entities: list[Entity]
    relations: list[Relation]


def components(scene: Scene, image_size: int = 64) -> Components:
    """Return every entity of a scene and every relation between two of them.

    A pair is related once along each axis that separates it, from the object that comes first in the scene.

    Args:
        scene (`Scene`): What to take apart.
        image_size (`int`): Side of the image in pixels, the unit of the boxes.

    Returns:
        `Components`: Entities in the order of `scene.objects`; no relations where there is one object.
    """
    entities = [Entity(phrase, box) for phrase, box in scene.entities(image_size)]
    relations = [
        Relation(
            f"{entities[i].phrase} {RELATION_WORDINGS[name][0]} {entities[j].phrase}",
            i,
            j,
            enclosing(entities[i].box, entities[j].box),
        )
        for i, j in combinations(range(len(entities)), 2)
        for name in RELATIONS
        if related(scene.objects[i], name, scene.objects[j])
    ]
    return Components(entities, relations)


def caption_components(caption: Caption) -> CaptionComponents:
    """Return what a caption says, from the statement that it words: phrases in order of appearance."""
    statement, text = caption.statement, caption.text
    mentions = sorted(statement.mentions, key=lambda mention: text.index(mention.phrase))
    relations = []
    if statement.relation is not None:
        subject, target = statement.mentions[:2]
        wording = RELATION_WORDINGS[statement.relation][caption.form.wording]
        relations = [f"{_bare(subject.phrase)} {wording} {target.phrase}"]
    return CaptionComponents(text, [_bare(mention.phrase) for mention in mentions], relations)


def _bare(phrase: str) -> str:
    """A noun phrase without its article."""
    return phrase.removeprefix("a ")


def scene_regions(scene: Scene, image_size: int = 64) -> tuple[list[Region], list[Relation]]:
    """Return what a perfect detector finds in a scene: every object, with score 1, and the regions of all pairs."""
    entities = [Region(box, 1.0, _bare(phrase)) for phrase, box in scene.entities(image_size)]
    return entities, relation_regions(entities)


def component_row(
    seed: int, split: str = "train", num_negatives: int = 0, image_size: int = 64, epoch: int = 0
) -> dict[str, Any]:
    """Return a scene with its regions and the components of a full caption.

    Args:
        seed, split, num_negatives, image_size, epoch: As in `scene_row`, which has the same image and captions.

    Returns:
        `dict`: `image` (`PIL.Image.Image`), `entities` (`list[Entity]`, every object, score 1), `relations`
        (`list[Relation]`, every pair), `captions` (`list[CaptionComponents]` of one), `negative_captions`
        (`list[CaptionComponents]`, up to `num_negatives`) and `image_id` (`int`, the seed).
    """
    scene = generate_scene(seed, split=split)
    rng = random.Random(f"row/{split}/{seed}/{epoch}")
    caption = full_caption(scene, rng)
    negatives, _ = sample_negatives(scene, caption, num_negatives, rng)
    entities, relations = scene_regions(scene, image_size)
    return {
        "image": render(scene, image_size),
        "entities": entities,
        "relations": relations,
        "captions": [caption_components(caption)],
        "negative_captions": extract(negatives),
        "image_id": seed,
    }


class SceneComponentDataset(WebSceneDataset):
    """Scenes with their components, to train and to test ComAlign with; see `component_row`.

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        num_negatives (`int`): Most negative captions, >= 0.
    """

    def __init__(self, count: int, split: str = "train", image_size: int = 64, seed: int = 0, num_negatives: int = 0):
        super().__init__(count, split, image_size, seed)
        self.num_negatives = num_negatives

    def __getitem__(self, index: int) -> dict[str, Any]:
        return component_row(self.scene_seed(index), self.split, self.num_negatives, self.image_size)
