"""Questions about scenes of the generated world, for models that answer in words."""

import random
from collections import Counter, defaultdict
from copy import copy
from typing import Any, ClassVar

import numpy as np

from ...data.scenes import QUESTION_KINDS, Question, generate_scene, questions, render
from ..metrics import as_scores, bootstrap_interval, mean_per_group
from ..results import Score
from .base import Benchmark

TRAINING_SCENES = 500  # show how often each answer is right


class SceneQuestions(Benchmark):
    """Is a model's answer, as greedy decoding gives it, the right word?

    Schema: `Question(text, answer, kind)` about a scene that training could not have shown. Metrics: the accuracy of
    each kind, `all_micro` over questions and `all_macro` over kinds; intervals resample scenes. The blind baseline
    answers each kind of question as training does most often; chance is any one of the kind's answers there.

    Dual encoders answer nothing: this is for `evaluate_questions`.

    Source: generated, see `compalign.data.scenes`. Licence: that of compalign.

    Args:
        scenes (`int`): Scenes about which all their questions are asked, >= 1.
        image_size (`int`): Side of the drawn image, in pixels.
        split (`str`): `"test"`, or `"validation"` to choose settings on.

    Attributes:
        asked (`list[Question]`): The questions, scene by scene.

    Raises:
        ValueError: If there is no scene or the split is unknown.
    """

    name = "scenes_questions"
    suite = "Questions about generated scenes"
    columns: ClassVar[dict[str, str]] = {kind: kind for kind in QUESTION_KINDS} | {"all_micro": "all"}

    def __init__(self, scenes: int = 500, image_size: int = 64, split: str = "test"):
        if scenes < 1:
            raise ValueError(f"scenes {scenes}; must be at least 1")
        of_scenes = [_asked(seed, split) for seed in range(scenes)]
        self.asked = [question for asked in of_scenes for question in asked]
        self.kinds = np.array([question.kind for question in self.asked])
        self.scene_of = np.repeat(np.arange(scenes), [len(asked) for asked in of_scenes])
        known = _training_answers()
        usual = {kind: answers.most_common(1)[0][0] for kind, answers in known.items()}
        self.chances = np.array([1 / len(known[kind]) for kind in self.kinds])
        self.baselines = {
            "most frequent answer": np.array([question.answer == usual[question.kind] for question in self.asked])
        }
        super().__init__(
            images=[render(generate_scene(seed, split=split), image_size) for seed in range(scenes)],
            texts=[f"{question.text} {question.answer}" for question in self.asked],
            image_groups=self.scene_of[:, None],
            text_groups=np.arange(len(self.asked))[:, None],
            n_found=len(self.asked),
        )

    def with_baseline(self, name: str, correct: np.ndarray) -> "SceneQuestions":
        """Return the same questions with one more blind baseline.

        Args:
            name (`str`): Of the baseline.
            correct (`numpy.ndarray` of shape `(questions,)`): Which of its answers are right.
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
            ValueError: If a score is neither 0 nor 1, such as a dual encoder's.
        """
        correct = as_scores(scores)[:, 0, 0]
        if not np.isin(correct, (0, 1)).all():
            raise ValueError(f"{self.name}: scores must be 0 or 1, right or wrong; only answers in words can be judged")
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
        """The accuracy on some questions, over questions or over kinds."""

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


def _asked(seed: int, split: str) -> list[Question]:
    """The questions about a scene of a split."""
    return questions(generate_scene(seed, split=split), random.Random(f"asked/{seed}"))


def _training_answers() -> dict[str, Counter[str]]:
    """How often each kind of question has each answer in the training split."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(TRAINING_SCENES):
        for question in _asked(seed, "train"):
            answers[question.kind][question.answer] += 1
    return answers
