"""The weight that CAL gives to each kind of word in captions of generated scenes."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from ...data.scenes import COLOURS, NOUNS, SIZES, full_caption, generate_scene, render
from ...data.scenes.captions import PLACE_WORDINGS, RELATION_WORDINGS
from ..tokens import weigh_tokens

REQUEST = "Describe the image."
SMALL_WORDS = {"on", "at", "the", "in", "of", "to", "side", "half"}
KINDS = {
    "attribute": {*COLOURS, *SIZES},
    "noun": set(NOUNS),
    "relation": {
        word
        for wordings in (*PLACE_WORDINGS.values(), *RELATION_WORDINGS.values())
        for wording in wordings
        for word in wording.split()
    }
    - SMALL_WORDS,
}


def kind_of_word(word: str) -> str:
    """Say whether a word is an attribute, a noun, a relation or a function word of the generated world."""
    return next((kind for kind, words in KINDS.items() if word in words), "function")


def weighed_words(captions: int, image_size: int) -> list[tuple[Image.Image, str]]:
    """Draw scenes of the test split with captions whose words are to be weighted."""
    drawn = [(generate_scene(seed, split="test"), random.Random(f"weighed/{seed}")) for seed in range(captions)]
    return [(render(scene, image_size), full_caption(scene, rng).text) for scene, rng in drawn]


def mean_weights(
    model: PreTrainedModel, processor: ProcessorMixin, captions: Sequence[tuple[Image.Image, str]], window: int = 1
) -> dict[str, float]:
    """Measure the mean weight of each kind of word.

    A word of several tokens counts with each of them. The end token is no word.

    Args:
        model, processor: An image-text-to-text model in evaluation mode, and its processor.
        captions (sequence of image and `str`): From `weighed_words`.
        window (`int`): Tokens over which weights are smoothed; 1 for none.

    Returns:
        `dict[str, float]`: Mean weight of attributes, function words, nouns and relations, within the clamp.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for image, text in captions:
        weights: list[Any] = weigh_tokens(model, processor, image, REQUEST, text, window=window)[:-1]
        for word, values in _by_word([token for token, *_ in weights], [weight for *_, weight in weights]):
            found[kind_of_word(word.strip(".,?"))] += values
    return {kind: sum(values) / len(values) for kind, values in sorted(found.items())}


def _by_word(tokens: Sequence[str], weights: Sequence[float]) -> list[tuple[str, list[float]]]:
    """Join tokens to words: a tokenizer that marks the start of words does so with a sign, others have whole words."""
    marked = any(token[0] in "▁Ġ" for token in tokens)
    words: list[tuple[str, list[float]]] = []
    for token, weight in zip(tokens, weights, strict=True):
        if words and marked and token[0] not in "▁Ġ":
            words[-1] = words[-1][0] + token, [*words[-1][1], weight]
        else:
            words.append((token.lstrip("▁Ġ"), [weight]))
    return words
