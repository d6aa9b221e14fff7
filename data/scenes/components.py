"""Components of scenes and their captions: entities and relations, with boxes and phrases."""

import random
from typing import Any

from ..components.boxes import relation_regions
from ..components.rows import CaptionComponents, Entity, Relation
from ..components.text import extract
from .captions import RELATION_WORDINGS, Caption, full_caption
from .dataset import WebSceneDataset, sample_negatives
from .graph import Scene, generate_scene
from .render import render


def caption_components(caption: Caption) -> CaptionComponents:
    """Return the components of a caption from its statement, in order of appearance."""
    statement, text = caption.statement, caption.text
    mentions = sorted(statement.mentions, key=lambda mention: text.index(mention.phrase))
    relations = []
    if statement.relation is not None:
        subject, target = statement.mentions[:2]
        wording = RELATION_WORDINGS[statement.relation][caption.form.wording]
        relations = [f"{_bare(subject.phrase)} {wording} {target.phrase}"]
    return CaptionComponents(text, [_bare(mention.phrase) for mention in mentions], relations)


def _bare(phrase: str) -> str:
    """Return a noun phrase without its article."""
    return phrase.partition(" ")[2]


def scene_regions(scene: Scene, image_size: int = 64) -> tuple[list[Entity], list[Relation]]:
    """Return the result of a perfect detector: every object of a scene, with score 1, and the regions of all pairs."""
    entities = [Entity(box, 1.0, _bare(phrase)) for phrase, box in scene.entities(image_size)]
    return entities, relation_regions(entities)


def component_row(
    seed: int, split: str = "train", num_negatives: int = 0, image_size: int = 64, epoch: int = 0
) -> dict[str, Any]:
    """Return a scene with its regions and the components of a full caption.

    Args:
        seed, split, num_negatives, image_size, epoch: As in `scene_row`, which gives the same image and captions.

    Returns:
        `dict`: `image` (`PIL.Image.Image`), `entities` (`list[Entity]`, every object with score 1), `relations`
        (`list[Relation]`, every pair), `captions` (`list[CaptionComponents]`, one caption), `negative_captions`
        (`list[CaptionComponents]`, up to `num_negatives`) and `image_id` (`int`, the seed).

    Example:

        >>> row = component_row(13)
        >>> row["captions"][0].relations
        ['yellow heart to the left of a red umbrella']
        >>> row["entities"][0]
        Entity(box=(35, 34, 59, 56), score=1.0, label='large red umbrella')
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
    """Scenes with their components, to train and test ComAlign. Rows are those of [`component_row`].

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        num_negatives (`int`): Largest number of negative captions per row, >= 0.
    """

    def __init__(self, count: int, split: str = "train", image_size: int = 64, seed: int = 0, num_negatives: int = 0):
        super().__init__(count, split, image_size, seed)
        self.num_negatives = num_negatives

    def __getitem__(self, index: int) -> dict[str, Any]:
        return component_row(self.scene_seed(index), self.split, self.num_negatives, self.image_size)
