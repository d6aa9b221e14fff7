"""Texts about scenes with questions on them, from which a language model learns to find an answer in its context."""

import random
from typing import Any

from ..readers.conversation_formats import Message
from .captions import PLACE_WORDINGS, Mention
from .conversations import CAPTION_REQUESTS, as_messages
from .dataset import WebSceneDataset
from .graph import PLACES, Scene, SceneObject, generate_scene, located
from .questions import questions

READABLE = ("colour", "object", "size", "place", "count", "exists")  # kinds that tags answer


def listing(scene: Scene, rng: random.Random) -> str:
    """List what is there as tags, the colour before and after its noun, since questions ask for either."""
    return " and ".join(_tags(item, rng) for item in rng.sample(scene.objects, len(scene.objects)))


def _tags(item: SceneObject, rng: random.Random) -> str:
    """Write an object such as "red cat , cat red , cat large , on the left", in random order."""
    said = [f"{item.colour} {item.noun}", f"{item.noun} {item.colour}", f"{item.noun} {item.size}"]
    return " , ".join([*rng.sample(said, len(said)), *_places(item, rng)])


def description(scene: Scene, rng: random.Random) -> str:
    """Describe every object of a scene, in random order, such as "a large red cat on the left"."""
    return " and ".join(
        " ".join([Mention(item.noun, item.size, item.colour).phrase, *_places(item, rng)])
        for item in rng.sample(scene.objects, len(scene.objects))
    )


def _places(item: SceneObject, rng: random.Random) -> list[str]:
    """Word the places of an object, of which there are none in the middle of the image."""
    return [rng.choice(PLACE_WORDINGS[place]) for place in PLACES if located(item, place)]


def reading_messages(seed: int, split: str = "train") -> list[Message]:
    """Return a conversation without an image: tags of a scene to describe it from, and questions that they answer.

    Args:
        seed (`int`): Seed of the scene.
        split (`str`): One of `SPLITS`.

    Returns:
        `list[Message]`: The tags stand before the request, in the place of the image.

    Example:

        >>> for message in reading_messages(13)[:4]:
        ...     print(message["role"], message["content"][0]["text"])
        user umbrella red , umbrella large , red umbrella , on the right , in the lower half and heart large ,
             yellow heart , heart yellow , at the top . Describe the image.
        assistant a large yellow heart in the upper half and a large red umbrella on the right side in the lower half
        user what colour is the umbrella?
        assistant red
    """
    scene, rng = generate_scene(seed, split=split), random.Random(f"reading/{split}/{seed}")
    tags, described = listing(scene, rng), description(scene, rng)
    asked = [(asked.text, asked.answer) for asked in questions(scene, rng) if asked.kind in READABLE]
    return as_messages([(f"{tags} . {rng.choice(CAPTION_REQUESTS)}", described), *asked])


class SceneReadingDataset(WebSceneDataset):
    """Conversations about descriptions of scenes, without images. Rows are `images` (empty), `messages` and `id`.

    Args:
        count, split, seed: As in `WebSceneDataset`.
    """

    def __init__(self, count: int, split: str = "train", seed: int = 0):
        super().__init__(count, split, seed=seed)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = self.scene_seed(index)
        return {"images": [], "messages": reading_messages(seed, self.split), "id": f"{self.split}/{seed}"}
