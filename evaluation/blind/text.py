"""Blind baselines: scores of captions from their texts alone."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

_START, _END, _UNKNOWN = "<start>", "<end>", "<unknown>"


def shorter_text(texts: Sequence[str]) -> np.ndarray:
    """Score texts so that the shortest wins.

    Args:
        texts (sequence of `str`): Candidate captions.

    Returns:
        `numpy.ndarray` of shape `(texts,)`: minus the number of characters.
    """
    return -np.array([len(text) for text in texts], dtype=np.float64)


def word_overlap(texts: Sequence[str]) -> np.ndarray:
    """Compare every text with every other by the words that they share, regardless of order.

    Args:
        texts (sequence of `str`): Captions.

    Returns:
        `numpy.ndarray` of shape `(texts, texts)`: Jaccard index of the lowercased words, in [0, 1]; 0 for two texts
        without words.
    """
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    return np.array([[len(one & other) / max(len(one | other), 1) for other in words] for one in words])


class NgramLanguageModel:
    """An n-gram model over lowercased words with add-one smoothing: the likelihood of a text, regardless of the image.

    A text is its words and an end mark. All words that occur in no fitted caption count as the same unknown word.

    Args:
        order (`int`): 1 for unigrams, 2 for bigrams, ...; >= 1.
        captions (iterable of `str`): Captions to fit the model on, from the training split only.

    Raises:
        ValueError: If the order is below 1 or there is no caption.

    Reference:
        Jurafsky and Martin, Speech and Language Processing, 3rd edition draft, chapter 3 (Laplace smoothing).
    """

    def __init__(self, order: int, captions: Iterable[str]):
        if order < 1:
            raise ValueError(f"order {order}; must be at least 1")
        self.order = order
        texts = [_words(caption) for caption in captions]
        if not texts:
            raise ValueError("no captions to fit a language model on")
        self.vocabulary = {word for words in texts for word in words} | {_END, _UNKNOWN}
        self.ngrams = Counter(ngram for words in texts for ngram in self._ngrams(words))
        self.contexts: Counter[tuple[str, ...]] = Counter()
        for ngram, count in self.ngrams.items():
            self.contexts[ngram[:-1]] += count

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Score texts by their log-likelihood.

        Args:
            texts (sequence of `str`): Candidate captions.

        Returns:
            `numpy.ndarray` of shape `(texts,)`: natural logarithm of each text's probability, <= 0. It is a sum over
            the words, so that shorter texts tend to be more likely.
        """
        return np.array([sum(map(self._log_probability, self._ngrams(_words(text)))) for text in texts])

    def _log_probability(self, ngram: tuple[str, ...]) -> float:
        """Return the smoothed log-probability of an n-gram's last word after the others."""
        return math.log((self.ngrams[ngram] + 1) / (self.contexts[ngram[:-1]] + len(self.vocabulary)))

    def _ngrams(self, words: list[str]) -> Iterator[tuple[str, ...]]:
        """Yield the n-gram that ends at each word, the end mark included."""
        known = [word if word in self.vocabulary else _UNKNOWN for word in words]
        padded = [_START] * (self.order - 1) + known + [_END]
        return zip(*(padded[offset:] for offset in range(self.order)), strict=False)


def blind_baselines(
    options: Sequence[Sequence[str]], training_captions: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Score the captions of choice items with every blind baseline.

    Args:
        options (sequence of sequences of `str`): Captions of each item, the true one first.
        training_captions (sequence of `str`, *optional*): Captions to fit the language models on. Without them, the
            only baseline is the length.

    Returns:
        `dict[str, numpy.ndarray]`: the scores of each baseline, of shape `(items, captions)`.
    """
    scorers = {"shorter text": shorter_text}
    if training_captions is not None:
        scorers["unigram likelihood"] = NgramLanguageModel(1, training_captions)
        scorers["bigram likelihood"] = NgramLanguageModel(2, training_captions)
    flat = [text for texts in options for text in texts]
    return {name: scorer(flat).reshape(len(options), -1) for name, scorer in scorers.items()}


def chance_recall(candidates: int, correct: int, k: int) -> float:
    """Compute the probability that a random order has a correct candidate among the first k.

    Args:
        candidates (`int`): Number of candidates, the correct ones included.
        correct (`int`): Number of correct candidates, >= 1.
        k (`int`): Depth, >= 1.

    Returns:
        `float` in [0, 1].
    """
    return 1 - math.comb(candidates - correct, k) / math.comb(candidates, k) if k < candidates else 1.0


def _words(text: str) -> list[str]:
    """Split a text into lowercased words without punctuation."""
    return re.findall(r"[\w']+", text.lower())
