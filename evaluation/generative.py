"""Generative models on the benchmarks of dual encoders: how likely a caption is as their answer about an image."""

import string
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.encoding import ImageSource, image_keys
from .answers import AnswerScorer, ScoredAnswer
from .benchmarks import Benchmark, CaptionChoice
from .encoding import TextSource, distinct_rows, single_prompt
from .evaluator import all_references, benchmark_instances, joint_groups, scored_results
from .results import Results

REDUCTIONS = {"mean": np.mean, "sum": np.sum}
LETTERS = string.ascii_uppercase

Captions = tuple[str, ...]
Options = tuple[int, ...]  # numbers of captions that are judged together


@dataclass(frozen=True)
class CaptionLikelihood:
    """Scores a caption by its log-likelihood as the answer to a prompt.

    Args:
        prompt (`str`): What the model is asked; for PaliGemma one that it knows, such as "caption en".
        reduction (`str`): "mean" over the tokens of the caption and its end token, or their "sum", which favours short
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
        """Each caption of a group is judged alone."""
        return [(caption,) for caption in group]

    def conversations(self, captions: Captions) -> list[tuple[str, str]]:
        """The caption as the answer."""
        return [(self.prompt, caption) for caption in captions]

    def scores(self, captions: Captions, answers: Sequence[ScoredAnswer]) -> list[float]:
        """The captions' log-likelihoods, <= 0."""
        return [float(REDUCTIONS[self.reduction](answer.log_probs)) for answer in answers]


@dataclass(frozen=True)
class LetteredChoice:
    """Scores the captions of a group by the letters under which the model is offered them.

    A letter that the model prefers gains nothing: captions are offered in as many orders as there are captions, each
    once at each place, and a caption's score is the mean log-probability of its letters.

    Args:
        prompt (`str`): What stands before the options.
        request (`str`): What stands behind them.
    """

    prompt: str = "Which caption describes the image?"
    request: str = "Answer with the option's letter from the given choices directly."

    def judged_together(self, group: Options) -> list[Options]:
        """All captions of a group are judged together."""
        return [group]

    def conversations(self, captions: Captions) -> list[tuple[str, str]]:
        """Every letter as the answer, for every order; raise a `ValueError` if there are more captions than letters."""
        if len(captions) > len(LETTERS):
            raise ValueError(f"{len(captions)} captions of one image; at most {len(LETTERS)} can be told by letters")
        letters = LETTERS[: len(captions)]
        orders = [captions[shift:] + captions[:shift] for shift in range(len(captions))]
        options = (
            "\n".join(f"{letter}. {caption}" for letter, caption in zip(letters, o, strict=True)) for o in orders
        )
        return [(f"{self.prompt}\n{offered}\n{self.request}", letter) for offered in options for letter in letters]

    def scores(self, captions: Captions, answers: Sequence[ScoredAnswer]) -> list[float]:
        """The captions' mean log-probabilities, <= 0; captions of the same words are level."""
        count = len(captions)
        of_letters = np.array([answer.log_probs[: answer.words].sum() for answer in answers]).reshape(count, count)
        shifts = np.arange(count)
        of_captions = defaultdict(list)
        for place, caption in enumerate(captions):
            of_captions[caption] += of_letters[shifts, (place - shifts) % count].tolist()
        return [float(np.mean(of_captions[caption])) for caption in captions]


@dataclass
class EncodedConversations:
    """What a generative model thinks of the captions of images, each distinct question asked once.

    Args:
        method (`CaptionLikelihood` or `LetteredChoice`): How it was asked.
        found (`dict`): By the number of an image and those of captions judged together, their scores.
        image_rows (`list[int]`): Number of each requested image.
        text_rows (`list[int]`): Number of each requested text.
        image_keys (`list[str]`): Content hash of each requested image; "" where it is left out.
        counts (`dict[str, int]`): How much was asked for and how much was done.
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
        """Scores of a group's captions for one image."""
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
    """Ask a generative model about the captions of images, each distinct question once.

    An image passes through the model once, with all that its questions begin with; see `AnswerScorer`.

    Args:
        model (`PreTrainedModel`): An image-text-to-text model; used where it is and in the data type it has.
        processor (`ProcessorMixin`): Its processor, with a chat template, or PaliGemma's.
        images (sequence of path, bytes, `dict`, `PIL.Image.Image`, `ImageCrop` or `None`): Images; `None` leaves the
            image out of the conversation.
        texts (sequence of `str`): Captions; a tuple of one prompt counts as its prompt.
        groups (iterable of pairs of arrays `(groups, I)` and `(groups, C)`): What is compared: positions in `images`
            and in `texts`.
        method (`CaptionLikelihood` or `LetteredChoice`): How to ask.
        batch_size (`int`): Captions, or options, a forward pass.
        progress (`bool`): Whether to show a progress bar.

    Returns:
        `EncodedConversations`

    Raises:
        ValueError: If the model or its chat template cannot be asked, an image not be read, or a text is an ensemble of
            prompts.
    """
    keys = iter(image_keys([image for image in images if image is not None]))
    keys = ["" if image is None else next(keys) for image in images]
    image_of, image_rows = distinct_rows(keys)
    caption_of, text_rows = distinct_rows([single_prompt(text) for text in texts])
    asked: dict[int, dict[Options, None]] = defaultdict(dict)
    for image_groups, text_groups in groups:
        for some_images, some_texts in zip(image_groups, text_groups, strict=True):
            together = method.judged_together(tuple(text_rows[text] for text in some_texts))
            for image in some_images:
                asked[image_rows[image]].update(dict.fromkeys(together))
    scorer, found, scored = AnswerScorer(model, processor, batch_size), {}, 0
    for image, questions in tqdm(asked.items(), desc="images", disable=not progress):
        captions = [tuple(single_prompt(texts[caption_of[number]]) for number in options) for options in questions]
        conversations = [method.conversations(together) for together in captions]
        answers = iter(scorer(images[image_of[image]], [pair for pairs in conversations for pair in pairs]))
        for options, together, pairs in zip(questions, captions, conversations, strict=True):
            found[image, options] = method.scores(together, list(islice(answers, len(pairs))))
            scored += len(pairs)
    counts = {
        "images_requested": len(images),
        "images_encoded": len(asked),
        "image_batches": scorer.beginnings,
        "texts_requested": len(texts),
        "texts_encoded": len(caption_of),
        "texts_truncated": 0,
        "answers_scored": scored,
    }
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
    """Compute the log-likelihood of every caption as the answer about every image.

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
    """Offer captions of every image as lettered options, in as many orders as there are captions.

    Args:
        model, processor, images, batch_size, progress: As in `encode_conversations`.
        captions (sequence of `str`): The options, at most 26.
        prompt: As in `LetteredChoice`.

    Returns:
        `numpy.ndarray` of shape `(captions, images)`, float64: mean log-probability of each caption's letters, <= 0;
        the model chooses the highest, and equal ones are a tie.

    Raises:
        ValueError: As `encode_conversations`; if there are too many captions.
    """
    return _every_pair(model, processor, images, captions, LetteredChoice(prompt), batch_size, progress)


def evaluate_generative(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    benchmarks: Sequence[str | Benchmark],
    method: CaptionLikelihood | LetteredChoice = CaptionLikelihood(),
    blind: bool = True,
    batch_size: int = 32,
    name: str | None = None,
    progress: bool = True,
) -> Results:
    """Evaluate a generative model on benchmarks, with the scorers of all models.

    Example:

    ```python
    results = evaluate_generative(model, processor, [SugarCrepe("sugar-crepe/data", "coco/val2017")], LetteredChoice())
    ```

    Args:
        model, processor, method, batch_size, progress: As in `encode_conversations`.
        benchmarks, name: As in `evaluate_model`.
        blind (`bool`): Whether the same model without the image is one more blind baseline of benchmarks that choose
            between captions; PaliGemma reads no text without an image.

    Returns:
        `Results`: the settings of texts are the method's.

    Raises:
        ValueError: As `evaluate_model` and `encode_conversations`; if a benchmark compares texts with one another.
    """
    start = time.perf_counter()
    requested = benchmark_instances(benchmarks)
    comparing = [benchmark.name for benchmark in requested if benchmark.compares_texts]
    if comparing:
        raise ValueError(f"{', '.join(comparing)}: compares texts with one another; a generative model embeds none")
    name = name or model.config.name_or_path or type(model).__name__
    images, texts = all_references(requested)
    ask = {"method": method, "batch_size": batch_size, "progress": progress}
    encoded = encode_conversations(model, processor, images, texts, joint_groups(requested), **ask)
    if blind:
        requested = [_with_own_baseline(benchmark, model, processor, name, ask) for benchmark in requested]
    settings = {"method": type(method).__name__, **asdict(method)}
    return scored_results(name, model, processor, requested, encoded, settings, start)


def _with_own_baseline(
    benchmark: Benchmark, model: PreTrainedModel, processor: ProcessorMixin, name: str, ask: dict[str, Any]
) -> Benchmark:
    """Add what the model scores without the image to a choice between captions."""
    if not isinstance(benchmark, CaptionChoice):
        return benchmark
    no_image = np.zeros((len(benchmark.text_groups), 1), dtype=np.int64)
    groups = no_image, benchmark.text_groups
    unseen = encode_conversations(model, processor, [None], benchmark.texts, [groups], **ask)
    return benchmark.with_baseline(f"{name} without the image", unseen.scores(*groups)[:, :, 0])


def _every_pair(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource | None],
    captions: Sequence[str],
    method: CaptionLikelihood | LetteredChoice,
    batch_size: int,
    progress: bool,
) -> np.ndarray:
    """Scores of all captions for all images, `(captions, images)`."""
    groups = np.arange(len(images))[None], np.arange(len(captions))[None]
    encoded = encode_conversations(model, processor, images, captions, [groups], method, batch_size, progress)
    return encoded.scores(*groups)[0]
