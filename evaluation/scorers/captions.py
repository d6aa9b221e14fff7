"""Scoring captions by an image-text-to-text model: the likelihood of each caption as an answer about the image."""

import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ...data.features.encode import Encoded, distinct, image_keys
from ...data.images import ImageSource
from .answers import AnswerScorer, ScoredAnswer
from .base import TextSource, WithoutTextScores, single_prompt, work_done

REDUCTIONS: dict[str, Callable[[np.ndarray], np.floating]] = {"mean": np.mean, "sum": np.sum}
LETTERS = string.ascii_uppercase

Captions = tuple[str, ...]
Options = tuple[int, ...]  # numbers of captions that the model judges together


@dataclass(frozen=True)
class CaptionLikelihood:
    """Scores a caption by its log-likelihood as the answer to a prompt.

    Args:
        prompt (`str`): The question; for PaliGemma a prompt that it was trained on, such as "caption en".
        reduction (`str`): "mean" over the tokens of the caption and its end token, or "sum", which favours short
            captions.

    Raises:
        ValueError: If the reduction is unknown.

    Reference:
        VisualGPTScore, https://huggingface.co/papers/2306.01879, section 3.
    """

    prompt: str = "Describe the image."
    reduction: str = "mean"

    def __post_init__(self):
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction {self.reduction!r}; must be one of {', '.join(REDUCTIONS)}")

    def judged_together(self, group: Options) -> list[Options]:
        """Split a group: each caption is judged alone."""
        return [(caption,) for caption in group]

    def conversations(self, captions: Captions) -> list[tuple[str, str]]:
        """Return one conversation per caption, with the caption as the answer."""
        return [(self.prompt, caption) for caption in captions]

    def scores(self, captions: Captions, answers: Sequence[ScoredAnswer]) -> list[float]:
        """Return the log-likelihood of each caption, <= 0."""
        return [float(REDUCTIONS[self.reduction](answer.log_probs)) for answer in answers]


@dataclass(frozen=True)
class LetteredChoice:
    """Scores the captions of a group as lettered options of one question.

    A preference for a letter gains nothing: the captions are offered in as many orders as there are captions, so that
    each has every letter once, and a caption's score is the mean log-probability of its letters.

    Args:
        prompt (`str`): Text before the options.
        request (`str`): Text after the options.
    """

    prompt: str = "Which caption describes the image?"
    request: str = "Answer with the option's letter from the given choices directly."

    def judged_together(self, group: Options) -> list[Options]:
        """Keep a group whole: its captions are judged together."""
        return [group]

    def conversations(self, captions: Captions) -> list[tuple[str, str]]:
        """Return a conversation per order and letter, with the letter as the answer.

        Raises:
            ValueError: If there are more captions than letters.
        """
        if len(captions) > len(LETTERS):
            raise ValueError(f"{len(captions)} captions of one image; at most {len(LETTERS)} can have a letter each")
        letters = LETTERS[: len(captions)]
        orders = [captions[shift:] + captions[:shift] for shift in range(len(captions))]
        options = (
            "\n".join(f"{letter}. {caption}" for letter, caption in zip(letters, o, strict=True)) for o in orders
        )
        return [(f"{self.prompt}\n{offered}\n{self.request}", letter) for offered in options for letter in letters]

    def scores(self, captions: Captions, answers: Sequence[ScoredAnswer]) -> list[float]:
        """Return the mean log-probability of each caption's letters, <= 0; equal captions have equal scores."""
        count = len(captions)
        of_letters = np.array([answer.log_probs[: answer.words].sum() for answer in answers]).reshape(count, count)
        shifts = np.arange(count)
        of_captions: dict[str, list[float]] = defaultdict(list)
        for place, caption in enumerate(captions):
            of_captions[caption] += of_letters[shifts, (place - shifts) % count].tolist()
        return [float(np.mean(of_captions[caption])) for caption in captions]


@dataclass
class EncodedConversations(WithoutTextScores):
    """Scores of captions as answers about images, each distinct question asked once; a `Scorer`.

    Args:
        method (`CaptionLikelihood` or `LetteredChoice`): How the model was asked.
        found (`dict`): Scores of captions that were judged together, by the number of the image and the numbers of the
            captions.
        image_rows (`list[int]`): Number of each requested image.
        text_rows (`list[int]`): Number of each requested text.
        image_keys (`list[str]`): Content hash of each requested image; "" for a conversation without an image.
        counts (`dict[str, int]`): See `work_done`; `answers_scored` counts the conversations.
    """

    method: CaptionLikelihood | LetteredChoice
    found: dict[tuple[int, Options], list[float]]
    image_rows: list[int]
    text_rows: list[int]
    image_keys: list[str]
    counts: dict[str, int]

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Look up the score of every text with every image of the same group.

        Args:
            image_groups (`numpy.ndarray` of shape `(groups, I)`): Positions in the requested images.
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, I)`, float64: `scores[group, text, image]`, <= 0.
        """
        return np.array(
            [
                np.transpose([self._of_group(self.image_rows[image], texts) for image in images])
                for images, texts in zip(image_groups, text_groups, strict=True)
            ]
        )

    def _of_group(self, image: int, texts: np.ndarray) -> list[float]:
        """Look up the scores of a group's captions for one image."""
        group = tuple(self.text_rows[text] for text in texts)
        return [score for options in self.method.judged_together(group) for score in self.found[image, options]]


def encode_conversations(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource | None],
    texts: Sequence[TextSource],
    groups: Iterable[tuple[np.ndarray, np.ndarray]],
    method: CaptionLikelihood | LetteredChoice,
    batch_size: int = 32,
    progress: bool = True,
) -> EncodedConversations:
    """Ask an image-text-to-text model about the captions of images, each distinct question once.

    An image passes through the model once, with the beginning that its questions share; see `AnswerScorer`.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model. Its device and data type stay as they are.
        processor (`ProcessorMixin`): Its processor, with a chat template, or PaliGemma's.
        images (sequence of path, bytes, `dict`, `PIL.Image.Image`, `ImageCrop` or `None`): Images; `None` stands for a
            conversation without an image.
        texts (sequence of `str`): Captions. A tuple of one prompt counts as its prompt.
        groups (iterable of pairs of arrays `(groups, I)` and `(groups, C)`): Images and texts to compare: positions in
            `images` and in `texts`.
        method (`CaptionLikelihood` or `LetteredChoice`): How to ask.
        batch_size (`int`): Captions, or options, per forward pass.
        progress (`bool`): Whether to show a progress bar.

    Returns:
        `EncodedConversations`

    Raises:
        ValueError: If `AnswerScorer` cannot score answers of this model, an image cannot be read, or a text is an
            ensemble of prompts.
    """
    found_keys = iter(image_keys([image for image in images if image is not None]))
    keys = ["" if image is None else next(found_keys) for image in images]
    first_images, image_rows = distinct(keys)
    image_of = list(first_images.values())
    first_captions, text_rows = distinct([single_prompt(text) for text in texts])
    distinct_captions = list(first_captions)
    asked: dict[int, dict[Options, None]] = defaultdict(dict)
    for image_groups, text_groups in groups:
        for some_images, some_texts in zip(image_groups, text_groups, strict=True):
            together = method.judged_together(tuple(text_rows[text] for text in some_texts))
            for image in some_images:
                asked[image_rows[image]].update(dict.fromkeys(together))
    scorer = AnswerScorer(model, processor, batch_size)
    found: dict[tuple[int, Options], list[float]] = {}
    scored = 0
    for image, questions in tqdm(asked.items(), desc="images", disable=not progress):
        captions = [tuple(distinct_captions[number] for number in options) for options in questions]
        conversations = [method.conversations(judged) for judged in captions]
        answers = iter(scorer(images[image_of[image]], [pair for pairs in conversations for pair in pairs]))
        for options, judged, pairs in zip(questions, captions, conversations, strict=True):
            found[image, options] = method.scores(judged, list(islice(answers, len(pairs))))
            scored += len(pairs)
    encoded_images = Encoded(keys, encoded=len(asked), batches=scorer.beginnings)
    encoded_texts = Encoded([], encoded=len(distinct_captions), batches=scorer.batches)
    counts = work_done(images, texts, encoded_images, encoded_texts) | {"answers_scored": scored}
    return EncodedConversations(method, found, image_rows, text_rows, keys, counts)


def caption_likelihoods(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource | None],
    captions: Sequence[str],
    prompt: str = CaptionLikelihood.prompt,
    reduction: str = CaptionLikelihood.reduction,
    batch_size: int = 32,
    progress: bool = True,
) -> np.ndarray:
    """Compute the log-likelihood of every caption as an answer about every image.

    Args:
        model, processor, images, batch_size, progress: As in `encode_conversations`.
        captions (sequence of `str`): Candidate answers.
        prompt, reduction: As in `CaptionLikelihood`.

    Returns:
        `numpy.ndarray` of shape `(captions, images)`, float64: natural logarithms, <= 0.

    Raises:
        ValueError: As `encode_conversations` and `CaptionLikelihood`.
    """
    return _every_pair(model, processor, images, captions, CaptionLikelihood(prompt, reduction), batch_size, progress)


def choose_option(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource | None],
    captions: Sequence[str],
    prompt: str = LetteredChoice.prompt,
    batch_size: int = 32,
    progress: bool = True,
) -> np.ndarray:
    """Offer captions as lettered options about every image, in as many orders as there are captions.

    Args:
        model, processor, images, batch_size, progress: As in `encode_conversations`.
        captions (sequence of `str`): The options, at most 26.
        prompt: As in `LetteredChoice`.

    Returns:
        `numpy.ndarray` of shape `(captions, images)`, float64: mean log-probability of each caption's letters, <= 0.
        The model chooses the highest; equal scores are a tie.

    Raises:
        ValueError: As `encode_conversations`; if there are more than 26 captions.
    """
    return _every_pair(model, processor, images, captions, LetteredChoice(prompt), batch_size, progress)


def _every_pair(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource | None],
    captions: Sequence[str],
    method: CaptionLikelihood | LetteredChoice,
    batch_size: int,
    progress: bool,
) -> np.ndarray:
    """Score all captions with all images: `(captions, images)`."""
    groups = np.arange(len(images))[None], np.arange(len(captions))[None]
    encoded = encode_conversations(model, processor, images, captions, [groups], method, batch_size, progress)
    return encoded.scores(*groups)[0]
