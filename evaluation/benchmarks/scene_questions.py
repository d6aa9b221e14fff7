"""Questions about generated scenes, for models that answer in words."""

import random
from collections import Counter, defaultdict
from copy import copy
from typing import Any, ClassVar

import numpy as np

from ...data.scenes import QUESTION_KINDS, Question, generate_scene, questions, render
from ..metrics import as_scores, bootstrap_interval, mean_per_group
from ..results import Score
from .base import Benchmark

TRAINING_SCENES = 500  # scenes whose answers are counted for the blind baseline and for chance


class SceneQuestions(Benchmark):
    """Answer questions about a scene in words: an answer is right if greedy decoding gives the expected word.

    Schema: `Question(text, answer, kind)` about a scene whose combinations of colour and noun training never shows.
    Metrics: the accuracy of each kind, `all_micro` over questions and `all_macro` over kinds; intervals resample whole
    scenes. The blind baseline gives the most frequent answer of the question's kind in the training split. Chance is a
    random guess among the answers of the kind.

    Only image-text-to-text models answer questions.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        scenes (`int`): Number of scenes, >= 1; every question about each is asked.
        image_size (`int`): Side of the drawn image, in pixels.
        split (`str`): `"test"`, or `"validation"` for choosing settings.
        num_objects (`int`, *optional*): Number of objects per scene. By default it is drawn.

    Attributes:
        asked (`list[Question]`): The questions, scene by scene.
        scene_of (`numpy.ndarray` of shape `(questions,)`): Number of each question's scene, which is its image.

    Raises:
        ValueError: If there is no scene or the split is unknown.
    """

    name = "scenes_questions"
    suite = "Questions about generated scenes"
    ability = "composition"
    columns: ClassVar[dict[str, str]] = {kind: kind for kind in QUESTION_KINDS} | {"all_micro": "all"}

    def __init__(self, scenes: int = 500, image_size: int = 64, split: str = "test", num_objects: int | None = None):
        if scenes < 1:
            raise ValueError(f"scenes {scenes}; must be at least 1")
        of_scenes = [_asked(seed, split, num_objects) for seed in range(scenes)]
        self.asked = [question for asked in of_scenes for question in asked]
        self.kinds = np.array([question.kind for question in self.asked])
        self.scene_of = np.repeat(np.arange(scenes), [len(asked) for asked in of_scenes])
        known = _training_answers(num_objects)
        usual = {kind: answers.most_common(1)[0][0] for kind, answers in known.items()}
        self.chances = np.array([1 / len(known[kind]) for kind in self.kinds])
        self.baselines = {
            "most frequent answer": np.array([question.answer == usual[question.kind] for question in self.asked])
        }
        super().__init__(
            images=[render(generate_scene(seed, num_objects, split), image_size) for seed in range(scenes)],
            texts=[f"{question.text} {question.answer}" for question in self.asked],
            image_groups=self.scene_of[:, None],
            text_groups=np.arange(len(self.asked))[:, None],
            n_found=len(self.asked),
        )

    def with_baseline(self, name: str, correct: np.ndarray) -> "SceneQuestions":
        """Return the same questions with one more blind baseline.

        Args:
            name (`str`): Name of the baseline.
            correct (`numpy.ndarray` of shape `(questions,)`): Whether each of its answers is right.

        Returns:
            `SceneQuestions`: a copy; this benchmark stays as it is.
        """
        other = copy(self)
        other.baselines = {**self.baselines, name: correct}
        return other

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the answers.

        Args:
            scores (`numpy.ndarray` of shape `(questions, 1, 1)`): 1 where the answer is right, 0 where it is not.

        Returns:
            `tuple`: as `Benchmark.score`.

        Raises:
            ValueError: If a score is neither 0 nor 1, as a cosine is.
        """
        correct = as_scores(scores)[:, 0, 0]
        if not np.isin(correct, (0, 1)).all():
            raise ValueError(f"{self.name}: scores must be 0 or 1, for a wrong or a right answer in words")
        metrics = {kind: self._accuracy(correct, self.kinds == kind) for kind in dict.fromkeys(self.kinds.tolist())}
        everything = np.ones(len(correct), dtype=bool)
        metrics["all_micro"] = self._accuracy(correct, everything)
        metrics["all_macro"] = self._accuracy(correct, everything, self.kinds)
        rows = [
            {"kind": asked.kind, "scene": scene, "question": asked.text, "answer": asked.answer, "correct": bool(hit)}
            for asked, scene, hit in zip(self.asked, self.scene_of.tolist(), correct, strict=True)
        ]
        return metrics, rows

    def _accuracy(self, correct: np.ndarray, chosen: np.ndarray, kinds: np.ndarray | None = None) -> Score:
        """Compute the accuracy on some questions, over questions or over kinds."""

        def mean(values: np.ndarray) -> float:
            return float(values[chosen].mean()) if kinds is None else mean_per_group(values[chosen], kinds[chosen])

        baselines = {name: mean(hits) for name, hits in self.baselines.items()}
        return Score(
            value=mean(correct),
            n=int(chosen.sum()),
            interval=bootstrap_interval(correct[chosen], groups=kinds, clusters=self.scene_of[chosen]),
            chance=mean(self.chances),
            baselines={
                name: {"strict": value, "half_credit": value, "tie_rate": 0.0, "n": int(chosen.sum())}
                for name, value in baselines.items()
            },
        )


def _asked(seed: int, split: str, num_objects: int | None) -> list[Question]:
    """Ask about a scene of a split."""
    return questions(generate_scene(seed, num_objects, split), random.Random(f"asked/{seed}"))


def _training_answers(num_objects: int | None) -> dict[str, Counter[str]]:
    """Count the answers to each kind of question in the training split."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(TRAINING_SCENES):
        for question in _asked(seed, "train", num_objects):
            answers[question.kind][question.answer] += 1
    return answers
