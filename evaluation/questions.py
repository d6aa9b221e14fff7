"""Generative models answer questions about images."""

import time
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.encoding import image_keys
from .answers import AnswerScorer
from .benchmarks.scene_questions import SceneQuestions
from .evaluator import scored_results
from .results import Results


@dataclass
class EncodedAnswers:
    """Which questions a model answers right.

    Args:
        correct (`numpy.ndarray` of shape `(questions,)`): Whether greedy decoding gives the answer.
        image_keys (`list[str]`): Content hash of each image.
        counts (`dict[str, int]`): How much was asked for and how much was done.
    """

    correct: np.ndarray
    image_keys: list[str]
    counts: dict[str, int]

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Look up whether each question is answered right: `(questions, 1, 1)`, 1 or 0."""
        return self.correct[text_groups].astype(np.float64)[:, :, None]


def evaluate_questions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmark: SceneQuestions,
    blind: bool = True,
    batch_size: int = 32,
    name: str | None = None,
    progress: bool = True,
) -> Results:
    """Ask a generative model all questions, and once more without the images.

    An answer is right if greedy decoding begins with it: each of its words is the likeliest after those before it.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model; used where it is and in the data type it has.
        processor (`ProcessorMixin`): Its processor, with a chat template, or PaliGemma's.
        benchmark (`SceneQuestions`): What is asked.
        blind (`bool`): Whether the same model without the image is one more blind baseline; PaliGemma reads no text
            without an image.
        batch_size (`int`): Questions a forward pass.
        name (`str`, optional): Name of the model in results; by default the one it was loaded under, or its class.
        progress (`bool`): Whether to show progress bars.

    Returns:
        `Results`

    Raises:
        ValueError: If the model or its chat template cannot be asked.
    """
    start = time.perf_counter()
    name = name or model.config.name_or_path or type(model).__name__
    scorer = AnswerScorer(model, processor, batch_size)
    correct = _answered(scorer, benchmark, shown=True, progress=progress)
    counts = {
        "images_requested": len(benchmark.images),
        "images_encoded": len(benchmark.images),
        "image_batches": scorer.beginnings,
        "texts_requested": len(benchmark.texts),
        "texts_encoded": len(benchmark.texts),
        "texts_truncated": 0,
    }
    encoded = EncodedAnswers(correct, image_keys(benchmark.images), counts)
    if blind:
        unseen = _answered(scorer, benchmark, shown=False, progress=progress)
        benchmark = benchmark.with_baseline(f"{name} without the image", unseen)
    return scored_results(name, model, processor, [benchmark], encoded, {"method": "greedy answer"}, start)


def _answered(scorer: AnswerScorer, benchmark: SceneQuestions, shown: bool, progress: bool) -> np.ndarray:
    """Whether each question is answered right, with its image shown or left out."""
    right: list[bool] = []
    of_images = np.split(np.arange(len(benchmark.asked)), np.flatnonzero(np.diff(benchmark.scene_of)) + 1)
    for image, places in tqdm(list(zip(benchmark.images, of_images, strict=True)), desc="images", disable=not progress):
        conversations = [(benchmark.asked[place].text, benchmark.asked[place].answer) for place in places]
        answers = scorer(image if shown else None, conversations)
        right += [bool(answer.likeliest[: answer.words].all()) for answer in answers]
    return np.array(right)
