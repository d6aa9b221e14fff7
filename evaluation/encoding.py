"""Encoding: each distinct image and each distinct text once, for all benchmarks together."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.images import open_image
from ..data.tokenization import caption_padding

ImageSource = str | Path | bytes | dict | Image.Image


@dataclass
class EncodedReferences:
    """Features of the distinct references, and where each requested one is found.

    Args:
        image_features (`torch.Tensor` of shape `(distinct images, dim)`): L2-normalised, float32, on the CPU.
        text_features (`torch.Tensor` of shape `(distinct texts, dim)`): L2-normalised, float32, on the CPU.
        image_rows (`torch.LongTensor` of shape `(images,)`): Row of each requested image.
        text_rows (`torch.LongTensor` of shape `(texts,)`): Row of each requested text.
        image_keys (`list[str]`): Content hash of each requested image.
        image_batches (`int`): Forward passes of the image tower.
        text_batches (`int`): Forward passes of the text tower.
        truncated_texts (`int`): Distinct texts that were longer than the model reads.
    """

    image_features: Tensor
    text_features: Tensor
    image_rows: Tensor
    text_rows: Tensor
    image_keys: list[str]
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

    @property
    def counts(self) -> dict[str, int]:
        """How much was asked for and how much was done: the saving, in numbers."""
        return {
            "images_requested": len(self.image_rows),
            "images_encoded": len(self.image_features),
            "image_batches": self.image_batches,
            "texts_requested": len(self.text_rows),
            "texts_encoded": len(self.text_features),
            "text_batches": self.text_batches,
            "texts_truncated": self.truncated_texts,
        }


def encode_references(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    batch_size: int = 256,
    num_workers: int = 0,
    progress: bool = True,
) -> EncodedReferences:
    """Encode images and texts with a dual encoder, each distinct one once.

    Texts are the same if their strings are; images if their bytes are (files) or their pixels are (decoded images). Up
    to float32 rounding, the result depends neither on the order nor on the batch size. The model is left as it was
    found: device, data type, and the training mode of every module; so is torch's random state.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model, with `get_image_features` and `get_text_features`.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.
        images (sequence of path, bytes, `dict` or `PIL.Image.Image`): Whatever `compalign.data.images.open_image`
            reads.
        texts (sequence of `str`): Captions, labels in their templates, ...
        batch_size (`int`): Images, and texts, a forward pass.
        num_workers (`int`): Processes that decode images; 0 decodes in this one.
        progress (`bool`): Whether to show progress bars.

    Returns:
        `EncodedReferences`: Features in float32 whatever the model's data type.

    Raises:
        ValueError: If there is no image or no text, or an image cannot be decoded.
        FileNotFoundError: If an image file is missing.
    """
    if not len(images) or not len(texts):
        raise ValueError(f"got {len(images)} images and {len(texts)} texts; at least one of each is needed")
    image_keys = _image_keys(images)
    image_positions, image_rows = _distinct(image_keys)
    text_positions, text_rows = _distinct(texts)
    pixels = _pixel_batches([images[k] for k in image_positions], processor.image_processor, batch_size, num_workers)
    tokens = _TokenBatches([texts[k] for k in text_positions], model.config, processor.tokenizer, batch_size)
    with _evaluating(model), torch.inference_mode():
        image_features = [
            _normalised(model.get_image_features(pixel_values=batch.to(model.device, model.dtype)))
            for batch in tqdm(pixels, desc="images", unit="batch", disable=not progress)
        ]
        text_features = [
            _normalised(model.get_text_features(**batch.to(model.device)))
            for batch in tqdm(tokens, desc="texts", unit="batch", disable=not progress)
        ]
    return EncodedReferences(
        image_features=torch.cat(image_features).cpu(),
        text_features=torch.cat(text_features).cpu()[tokens.rank],
        image_rows=torch.tensor(image_rows),
        text_rows=torch.tensor(text_rows),
        image_keys=image_keys,
        image_batches=len(image_features),
        text_batches=len(text_features),
        truncated_texts=tokens.truncated,
    )


def text_length(model_config: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text the model reads, BOS and EOS included."""
    return min(tokenizer.model_max_length, model_config.text_config.max_position_embeddings)


class _DecodedImages(Dataset):
    """Pixel values of images, decoded when asked for."""

    def __init__(self, sources: list[ImageSource], image_processor: Any):
        self.sources = sources
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, position: int) -> Tensor:
        image = open_image(self.sources[position])
        return self.image_processor(images=image, return_tensors="pt")["pixel_values"][0]  # (3, height, width)


class _TokenBatches:
    """Token batches in the order of length, so that each is trimmed to about the length of its texts."""

    def __init__(self, texts: list[str], model_config: Any, tokenizer: Any, batch_size: int):
        self.tokenizer = tokenizer
        self.padding = caption_padding(model_config)
        self.max_length = text_length(model_config, tokenizer)
        full = tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
        self.truncated = sum(len(ids) > self.max_length for ids in full)
        order = sorted(range(len(texts)), key=lambda k: len(full[k]))
        self.batches = [[texts[k] for k in order[i : i + batch_size]] for i in range(0, len(order), batch_size)]
        self.rank = torch.tensor(order).argsort()  # position of each text in the concatenated batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for texts in self.batches:
            yield self.tokenizer(
                texts, padding=self.padding, truncation=True, max_length=self.max_length, return_tensors="pt"
            )


def _pixel_batches(sources: list[ImageSource], image_processor: Any, batch_size: int, num_workers: int) -> DataLoader:
    """Load pixel values batch by batch, in order."""
    return DataLoader(
        _DecodedImages(sources, image_processor),
        batch_size=batch_size,
        num_workers=num_workers,
        # A loader draws its workers' seed, from the global stream unless it is given another.
        generator=torch.Generator(),
    )


def _normalised(output: Any) -> Tensor:
    """Return the projected features of unit length, widened first: half precision cannot tell close scores apart."""
    return normalize(output.pooler_output.float(), dim=-1)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation, then each back to the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _distinct(keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the first position of each distinct key, and for each position the number of its distinct key."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    number = {key: row for row, key in enumerate(first)}
    return list(first.values()), [number[key] for key in keys]


def _image_keys(images: Sequence[ImageSource]) -> list[str]:
    """Hash the content of each image; a path that repeats is read once."""
    known: dict[str, str] = {}
    keys = []
    for image in images:
        if isinstance(image, dict):
            image = image["path"] if image.get("bytes") is None else image["bytes"]
        if isinstance(image, (str, Path)):
            name = str(image)
            if name not in known:
                known[name] = hashlib.sha256(Path(image).read_bytes()).hexdigest()
            keys.append(known[name])
        elif isinstance(image, bytes):
            keys.append(hashlib.sha256(image).hexdigest())
        else:
            keys.append(hashlib.sha256(f"{image.size} ".encode() + image.convert("RGBA").tobytes()).hexdigest())
    return keys
