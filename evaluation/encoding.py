"""Encoding for evaluation: the references of all benchmarks together, each distinct one once, and their cosines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, ProcessorMixin

from ..data.encoding import ImageSource, feature_stores, store_images, store_texts
from ..data.feature_store import Features

TextSource = str | tuple[str, ...]


@dataclass
class EncodedReferences:
    """Features of the distinct references, and where each requested one is found.

    Args:
        image_features (`torch.Tensor` of shape `(distinct images, dim)`): L2-normalised, float32, on the CPU.
        text_features (`torch.Tensor` of shape `(distinct texts, dim)`): L2-normalised, float32, on the CPU; those of
            ensembles of prompts come last.
        image_rows (`torch.LongTensor` of shape `(images,)`): Row of each requested image.
        text_rows (`torch.LongTensor` of shape `(texts,)`): Row of each requested text.
        image_keys (`list[str]`): Content hash of each requested image.
        images_encoded (`int`): Images that passed through the model; without a cache, the distinct ones.
        texts_encoded (`int`): Texts that passed through the model; without a cache, the distinct ones.
        image_batches (`int`): Forward passes of the image tower.
        text_batches (`int`): Forward passes of the text tower.
        truncated_texts (`int`): Distinct texts that were longer than the model reads.
    """

    image_features: Tensor
    text_features: Tensor
    image_rows: Tensor
    text_rows: Tensor
    image_keys: list[str]
    images_encoded: int
    texts_encoded: int
    image_batches: int
    text_batches: int
    truncated_texts: int

    def scores(self, image_groups: np.ndarray, text_groups: np.ndarray) -> np.ndarray:
        """Compute the cosine of every text with every image of the same group.

        Args:
            image_groups (`numpy.ndarray` of shape `(groups, I)`): Positions in the requested images.
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, I)`, float32: `scores[group, text, image]`, in [-1, 1].
        """
        images = self.image_features[self.image_rows[torch.as_tensor(image_groups)]]  # (groups, I, dim)
        texts = self.text_features[self.text_rows[torch.as_tensor(text_groups)]]  # (groups, C, dim)
        return (texts @ images.mT).numpy()

    def text_scores(self, text_groups: np.ndarray) -> np.ndarray:
        """Compute the cosine of every text with every text of the same group.

        Args:
            text_groups (`numpy.ndarray` of shape `(groups, C)`): Positions in the requested texts.

        Returns:
            `numpy.ndarray` of shape `(groups, C, C)`, float32: symmetric, in [-1, 1].
        """
        texts = self.text_features[self.text_rows[torch.as_tensor(text_groups)]]  # (groups, C, dim)
        return (texts @ texts.mT).numpy()

    @property
    def counts(self) -> dict[str, int]:
        """How much was asked for and how much was done: the saving, in numbers."""
        return {
            "images_requested": len(self.image_rows),
            "images_encoded": self.images_encoded,
            "image_batches": self.image_batches,
            "texts_requested": len(self.text_rows),
            "texts_encoded": self.texts_encoded,
            "text_batches": self.text_batches,
            "texts_truncated": self.truncated_texts,
        }


def encode_references(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource],
    texts: Sequence[TextSource],
    batch_size: int = 256,
    num_workers: int = 0,
    progress: bool = True,
    cache: str | Path | None = None,
) -> EncodedReferences:
    """Encode images and texts with a dual encoder, each distinct one once.

    Texts are the same if their strings are; images if their bytes are (files) or their pixels are (decoded images). Up
    to float32 rounding, the result depends neither on the order nor on the batch size. The model is left as it was
    found: device, data type, and the training mode of every module; so is torch's random state. Several processes share
    the work where `torch.distributed` is initialised; see `compalign.data.encoding.store_images`.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model, with `get_image_features` and `get_text_features`.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.
        images (sequence of path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): Whatever
            `compalign.data.images.open_image` reads, but for open files.
        texts (sequence of `str` or `tuple[str, ...]`): Captions, or ensembles of prompts, each of which becomes the
            normalised mean of its prompts' normalised features.
        batch_size (`int`): Images, and texts, a forward pass.
        num_workers (`int`): Processes that decode images; 0 decodes in this one.
        progress (`bool`): Whether to show progress bars.
        cache (`str` or `Path`, optional): Folder in which features are remembered for later calls. Those of another
            model, processor or data type are never used.

    Returns:
        `EncodedReferences`: Features in float32 whatever the model's data type.

    Raises:
        ValueError: If there is no image or no text, or an image cannot be decoded.
        FileNotFoundError: If an image file is missing.
    """
    if not len(images) or not len(texts):
        raise ValueError(f"got {len(images)} images and {len(texts)} texts; at least one of each is needed")
    image_store, text_store = (Features(), Features()) if cache is None else feature_stores(cache, model, processor)
    seen = store_images(model, processor, images, image_store, batch_size, num_workers, progress)
    ensembles = [(text,) if isinstance(text, str) else text for text in texts]
    prompts = [prompt for ensemble in ensembles for prompt in ensemble]
    read = store_texts(model, processor, prompts, text_store, batch_size, progress)
    image_features, image_rows = _distinct(image_store, seen.keys)
    prompt_features, prompt_rows = _distinct(text_store, read.keys)
    text_features, text_rows = _ensembled(prompt_features, prompt_rows.split([len(ensemble) for ensemble in ensembles]))
    return EncodedReferences(
        image_features=image_features,
        text_features=text_features,
        image_rows=image_rows,
        text_rows=text_rows,
        image_keys=seen.keys,
        images_encoded=seen.encoded,
        texts_encoded=read.encoded,
        image_batches=seen.batches,
        text_batches=read.batches,
        truncated_texts=read.truncated,
    )


class ScoredCaptions(NamedTuple):
    """Cosines of captions with an image, their shares by the model's own scale, and how many were cut."""

    cosines: list[float]
    shares: list[float]
    truncated: int


def score_captions(
    model: PreTrainedModel, processor: ProcessorMixin, image: ImageSource, captions: Sequence[str]
) -> ScoredCaptions:
    """Score captions of one image with a dual encoder.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model with a `logit_scale`.
        processor (`ProcessorMixin`): Its processor.
        image: As in `encode_references`.
        captions (sequence of `str`): At least one.

    Returns:
        `ScoredCaptions`: Shares are the softmax over the captions of logit scale x cosine.
    """
    encoded = encode_references(model, processor, [image], captions, progress=False)
    cosines = torch.from_numpy(encoded.scores(np.zeros((1, 1), int), np.arange(len(captions))[None])[0, :, 0])
    shares = (model.logit_scale.exp().item() * cosines).softmax(dim=0)
    return ScoredCaptions(cosines.tolist(), shares.tolist(), encoded.truncated_texts)


def single_prompt(text: TextSource) -> str:
    """Return a text as one caption, for scorers that have no features to average.

    Args:
        text (`str` or `tuple[str, ...]`): A caption, or an ensemble of prompts.

    Raises:
        ValueError: If an ensemble has several prompts.
    """
    if isinstance(text, str):
        return text
    if len(text) > 1:
        raise ValueError(
            f"an ensemble of {len(text)} prompts cannot be scored as one text: {text[0]!r}, ...; only dual encoders "
            "average prompts"
        )
    return text[0]


def distinct_rows(keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where each distinct key is met first, and the number of each key among the distinct ones."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    number = {key: row for row, key in enumerate(first)}
    return list(first.values()), [number[key] for key in keys]


def _distinct(store: Features, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the features of the distinct keys, of length 1, and the row of each key in them."""
    number: dict[str, int] = {}
    rows = [number.setdefault(key, len(number)) for key in keys]
    return normalize(store.read(list(number)), dim=-1), torch.tensor(rows)


def _ensembled(features: Tensor, members: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Add the normalised mean of each distinct ensemble to the prompts' features, and return the row of each text."""
    number: dict[tuple[int, ...], int] = {}
    rows = []
    for prompts in (tuple(rows_of_text.tolist()) for rows_of_text in members):
        rows.append(prompts[0] if len(prompts) == 1 else number.setdefault(prompts, len(features) + len(number)))
    means = [normalize(features[list(prompts)].mean(dim=0, keepdim=True), dim=-1) for prompts in number]
    return torch.cat([features, *means]), torch.tensor(rows)
