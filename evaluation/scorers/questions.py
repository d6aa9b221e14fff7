"""Scoring by answers: whether a model answers questions about images right."""

from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ...data.features.encode import Encoded, image_keys
from ..benchmarks.scene_questions import SceneQuestions
from .answers import AnswerScorer
from .base import WithoutTextScores, work_done


@dataclass
class EncodedAnswers(WithoutTextScores):
    """Which questions a model answers right; a `Scorer`.

    Args:
        correct (`numpy.ndarray` of shape `(questions,)`): Whether greedy decoding gives the answer.
        image_keys (`list[str]`): Content hash of each image.
        counts (`dict[str, int]`): See `work_done`.
    """

    correct: np.ndarray
    image_keys: list[str]
    counts: dict[str, int]

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Look up whether each question is answered right.

        Args:
            image_groups (`numpy.ndarray` of shape `(groups, 1)`): Unused: every question belongs to one image.
            text_groups (`numpy.ndarray` of shape `(groups, 1)`): Numbers of the questions.

        Returns:
            `numpy.ndarray` of shape `(groups, 1, 1)`, float64: 1 for right, 0 for wrong.
        """
        return self.correct[text_groups].astype(np.float64)[:, :, None]


def answer_questions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmark: SceneQuestions,
    with_images: bool = True,
    batch_size: int = 32,
    progress: bool = True,
) -> EncodedAnswers:
    """Ask an image-text-to-text model all questions of a benchmark.

    An answer is right if greedy decoding begins with it: each of its words is the most likely one after those before.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model. Its device and data type stay as they are.
        processor (`ProcessorMixin`): Its processor, with a chat template, or PaliGemma's.
        benchmark (`SceneQuestions`): The questions.
        with_images (`bool`): Whether the model sees the images.
        batch_size (`int`): Questions per forward pass.
        progress (`bool`): Whether to show a progress bar.

    Returns:
        `EncodedAnswers`

    Raises:
        ValueError: If `AnswerScorer` cannot score answers of this model.
    """
    scorer = AnswerScorer(model, processor, batch_size)
    correct: list[bool] = []
    of_images = np.split(np.arange(len(benchmark.asked)), np.flatnonzero(np.diff(benchmark.scene_of)) + 1)
    for image, places in tqdm(list(zip(benchmark.images, of_images, strict=True)), desc="images", disable=not progress):
        conversations = [(benchmark.asked[place].text, benchmark.asked[place].answer) for place in places]
        answers = scorer(image if with_images else None, conversations)
        correct += [bool(answer.likeliest[: answer.words].all()) for answer in answers]
    keys = image_keys(benchmark.images)
    images = Encoded(keys, encoded=len(keys) if with_images else 0, batches=scorer.beginnings)
    texts = Encoded([], encoded=len(benchmark.texts), batches=scorer.batches)
    return EncodedAnswers(np.array(correct), keys, work_done(benchmark.images, benchmark.texts, images, texts))
