"""Scoring by a dual encoder: the cosine of each text with each image, every distinct one encoded once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, ProcessorMixin

from ...data.features.encode import distinct, feature_stores, store_images, store_texts
from ...data.features.store import Features
from ...data.images import ImageSource
from ...modeling.kinds import WITHOUT_LOGIT_SCALE
from .base import TextSource, work_done


@dataclass
class EncodedReferences:
    """Features of the distinct images and texts, and the row of each requested one; a `Scorer`.

    Args:
        image_features (`torch.Tensor` of shape `(distinct images, dim)`): L2-normalised, float32, on the CPU.
        text_features (`torch.Tensor` of shape `(distinct texts, dim)`): L2-normalised, float32, on the CPU. Ensembles
            of prompts come last.
        image_rows (`torch.LongTensor` of shape `(images,)`): Row of each requested image.
        text_rows (`torch.LongTensor` of shape `(texts,)`): Row of each requested text.
        image_keys (`list[str]`): Content hash of each requested image.
        counts (`dict[str, int]`): See `work_done`. Without a cache, every distinct image and text is encoded.
    """

    image_features: Tensor
    text_features: Tensor
    image_rows: Tensor
    text_rows: Tensor
    image_keys: list[str]
    counts: dict[str, int]

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

    Texts are the same if their strings are equal; images are the same if their bytes (files) or pixels (decoded images)
    are equal. Up to float32 rounding, the result does not depend on the order or on the batch size. The device, the
    data type and the training mode of every module stay as they were, and so does torch's random state. Where
    `torch.distributed` is initialised, the processes share the work; see `compalign.data.features.encode.store_images`.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model, with `get_image_features` and `get_text_features`.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.
        images (sequence of path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): Anything that
            `compalign.data.images.open_image` reads, except open files.
        texts (sequence of `str` or `tuple[str, ...]`): Texts. A tuple is an ensemble of prompts: its features are the
            normalised mean of the prompts' normalised features.
        batch_size (`int`): Images, and texts, per forward pass.
        num_workers (`int`): Processes that decode images; 0 decodes in this process.
        progress (`bool`): Whether to show progress bars.
        cache (`str` or `Path`, *optional*): Folder that keeps features for later calls. Features of another model,
            processor or data type are never used.

    Returns:
        `EncodedReferences`: Features are float32, whatever the model's data type.

    Raises:
        ValueError: If there is no image or no text, or an image cannot be decoded.
        FileNotFoundError: If an image file is missing.
    """
    if not len(images) or not len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts; at least one of each is needed")
    image_store, text_store = (Features(), Features()) if cache is None else feature_stores(cache, model, processor)
    encoded_images = store_images(model, processor, images, image_store, batch_size, num_workers, progress)
    ensembles = [(text,) if isinstance(text, str) else text for text in texts]
    prompts = [prompt for ensemble in ensembles for prompt in ensemble]
    encoded_texts = store_texts(model, processor, prompts, text_store, batch_size, progress)
    image_features, image_rows = _unit_features(image_store, encoded_images.keys)
    prompt_features, prompt_rows = _unit_features(text_store, encoded_texts.keys)
    text_features, text_rows = _ensembled(prompt_features, prompt_rows.split([len(ensemble) for ensemble in ensembles]))
    return EncodedReferences(
        image_features=image_features,
        text_features=text_features,
        image_rows=image_rows,
        text_rows=text_rows,
        image_keys=encoded_images.keys,
        counts=work_done(images, texts, encoded_images, encoded_texts),
    )


class ScoredCaptions(NamedTuple):
    """Scores of the captions of one image.

    Args:
        cosines (`list[float]`): Cosine of each caption with the image, in [-1, 1].
        shares (`list[float]`): Softmax over the captions of logit scale x cosine; the shares add up to 1.
        truncated (`int`): Distinct captions that are longer than the model reads.
    """

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
        `ScoredCaptions`

    Raises:
        ValueError: If there is no caption, the image cannot be decoded, or the model has no logit scale.
    """
    if model.config.model_type in WITHOUT_LOGIT_SCALE:
        raise ValueError(
            f"{model.config.name_or_path or type(model).__name__} is of type {model.config.model_type!r}, which has no "
            "logit scale: its cosines have no shares; compalign evaluate compares them"
        )
    encoded = encode_references(model, processor, [image], captions, progress=False)
    cosines = torch.from_numpy(encoded.scores(np.zeros((1, 1), int), np.arange(len(captions))[None])[0, :, 0])
    logit_scale = cast(Tensor, model.logit_scale).exp().item()
    shares = (logit_scale * cosines).softmax(dim=0)
    return ScoredCaptions(cosines.tolist(), shares.tolist(), encoded.counts["texts_truncated"])


def _unit_features(store: Features, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read the features of the distinct keys, L2-normalised, and return the row of each key in them."""
    first, rows = distinct(keys)
    return normalize(store.read(list(first)), dim=-1), torch.tensor(rows)


def _ensembled(features: Tensor, members: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Append the normalised mean of each distinct ensemble to the prompts' features; return the row of each text."""
    number: dict[tuple[int, ...], int] = {}
    rows = []
    for prompts in (tuple(rows_of_text.tolist()) for rows_of_text in members):
        rows.append(prompts[0] if len(prompts) == 1 else number.setdefault(prompts, len(features) + len(number)))
    means = [normalize(features[list(prompts)].mean(dim=0, keepdim=True), dim=-1) for prompts in number]
    return torch.cat([features, *means]), torch.tensor(rows)
