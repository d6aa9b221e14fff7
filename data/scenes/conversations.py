"""Conversations about scenes: a description on request, or questions and answers."""

import random
from collections.abc import Iterable
from typing import Any

from ..readers.conversation_formats import Message, image_part, text_part
from .captions import full_caption
from .dataset import SEED_STRIDE, WebSceneDataset
from .graph import Scene, generate_scene
from .irrelevant import REQUESTS, irrelevant_sentence
from .questions import questions
from .render import render

CAPTION_REQUESTS = (
    "Describe the image.",
    "What does the image show?",
    "What can you see in this picture?",
    "Write a caption for this image.",
)
CAPTION_SHARE = 0.5  # share of rows that are descriptions
MOST_QUESTIONS = 3


def _exchanges(scene: Scene, rng: random.Random) -> list[tuple[str, str]]:
    """Draw pairs of a question of the user and its answer."""
    if rng.random() < CAPTION_SHARE:
        return [(rng.choice(CAPTION_REQUESTS), full_caption(scene, rng).text)]
    asked = questions(scene, rng)[: rng.randint(1, MOST_QUESTIONS)]
    return [(question.text, question.answer) for question in asked]


def as_messages(exchanges: Iterable[tuple[str, str]]) -> list[Message]:
    """Write pairs of what the user asks and the assistant answers as messages."""
    return [
        {"role": role, "content": [text_part(text)]}
        for exchange in exchanges
        for role, text in zip(("user", "assistant"), exchange, strict=True)
    ]


def _with_irrelevant(exchanges: list[tuple[str, str]], share: float, rng: random.Random) -> list[tuple[str, str]]:
    """Add sentences that are not about the image, to a description or as further exchanges.

    The expected number of words added is that which makes them the given share of all words of answers, in [0, 1).
    """
    relevant = sum(len(answer.split()) for _, answer in exchanges)
    missing = relevant * share / (1 - share)
    exchanges = list(exchanges)
    while True:
        sentence = irrelevant_sentence(rng)
        length = len(sentence.split())
        if rng.random() * length >= missing:
            return exchanges
        missing -= length
        request, answer = exchanges[0]
        if request in CAPTION_REQUESTS:
            exchanges[0] = request, " . ".join(rng.sample((sentence, answer), 2))
        else:
            exchanges.insert(rng.randint(0, len(exchanges)), (rng.choice(REQUESTS), sentence))


def scene_messages(
    seed: int, split: str = "train", irrelevant: float = 0.0, num_objects: int | None = None
) -> list[Message]:
    """Return the messages of `scene_conversation`, without drawing the scene."""
    scene, rng = generate_scene(seed, num_objects, split), random.Random(f"conversation/{split}/{seed}")
    exchanges = _exchanges(scene, rng)
    if irrelevant:
        exchanges = _with_irrelevant(exchanges, irrelevant, random.Random(f"irrelevant/{split}/{seed}"))
    messages = as_messages(exchanges)
    messages[0]["content"].insert(0, image_part())
    return messages


def scene_conversation(
    seed: int,
    split: str = "train",
    image_size: int = 64,
    text_seed: int | None = None,
    irrelevant: float = 0.0,
    num_objects: int | None = None,
) -> dict[str, Any]:
    """Return a scene with a conversation about it: a description on request, or one to three questions and answers.

    Args:
        seed (`int`): Seed of the scene.
        split (`str`): One of `SPLITS`.
        image_size (`int`): Side of the image in pixels.
        text_seed (`int`, *optional*): Seed of the scene that the conversation is about. Default: the same scene.
            Another seed makes a noisy row, whose text does not fit its image.
        irrelevant (`float`): Share of the answers' words that are not about any image, in [0, 1), in expectation. What
            is about the image stays as it is at 0.
        num_objects (`int`, *optional*): Number of objects in the scene. By default it is drawn.

    Returns:
        `dict`: `images` (list of one `PIL.Image.Image`), `messages` (as from `load_conversations`) and `id` (`str`).

    Example:

        >>> for message in scene_conversation(8)["messages"]:
        ...     print(message["role"], [part["text"] or part["type"] for part in message["content"]])
        user ['image', 'What does the image show?']
        assistant ['a picture of a large purple umbrella on the right side and a yellow sun on the left side']
    """
    image = render(generate_scene(seed, num_objects, split), image_size)
    messages = scene_messages(seed if text_seed is None else text_seed, split, irrelevant, num_objects)
    return {"images": [image], "messages": messages, "id": f"{split}/{seed}"}


class SceneConversationDataset(WebSceneDataset):
    """Scenes with conversations, to fine-tune an image-text-to-text model. Rows are those of [`scene_conversation`].

    Args:
        count, split, image_size, seed: As in `WebSceneDataset`.
        shuffled (`float`): Share of rows, in [0, 1], whose conversation is about another scene, to measure how much
            noise a method tolerates. These rows depend only on split, seed and index. The rows of a smaller share are
            a subset of those of a larger share.
        irrelevant (`float`): Share of the answers' words that are not about any image, in [0, 1).
        num_objects (`int`, *optional*): Number of objects per scene. By default it is drawn.

    Raises:
        ValueError: If `shuffled` is not in [0, 1], or `irrelevant` not in [0, 1).
    """

    def __init__(
        self,
        count: int,
        split: str = "train",
        image_size: int = 64,
        seed: int = 0,
        shuffled: float = 0.0,
        irrelevant: float = 0.0,
        num_objects: int | None = None,
    ):
        if not 0 <= shuffled <= 1:
            raise ValueError(f"shuffled={shuffled} is not in [0, 1]")
        if not 0 <= irrelevant < 1:
            raise ValueError(f"irrelevant={irrelevant} is not in [0, 1)")
        super().__init__(count, split, image_size, seed)
        self.shuffled = shuffled
        self.irrelevant = irrelevant
        self.num_objects = num_objects

    def text_seed(self, index: int) -> int:
        """Return the seed of the scene that the conversation at an index is about."""
        seed = self.scene_seed(index)
        rng = random.Random(f"shuffled/{self.split}/{seed}")
        if rng.random() >= self.shuffled:
            return seed
        # Any other scene of this dataset seed, whether in the dataset or not, so that the choice ignores its length.
        return seed - index + (index + rng.randrange(1, SEED_STRIDE)) % SEED_STRIDE

    def __getitem__(self, index: int) -> dict[str, Any]:
        return scene_conversation(
            self.scene_seed(index),
            self.split,
            self.image_size,
            self.text_seed(index),
            self.irrelevant,
            self.num_objects,
        )
