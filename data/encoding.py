"""Encoding: each distinct image, crop and text once, by one process or several, remembered where a store is given."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from .feature_store import Features, FeatureStore
from .fingerprint import encoder_fingerprint
from .images import ImageCrop, crop_image, image_name, open_image
from .tokenization import caption_padding, text_length

ImageSource = str | Path | bytes | dict | Image.Image | ImageCrop

_TEXTS_TOKENIZED_AT_ONCE = 10_000


class Encoded(NamedTuple):
    """Where requested features are found, and what they asked of the model.

    Args:
        keys (`list[str]`): Content key of each requested image or text, to read its features by.
        encoded (`int`): How many passed through the model, in all processes together; the others were known.
        batches (`int`): In how many forward passes.
        truncated (`int`): Distinct texts that are longer than the model reads, known ones included.
    """

    keys: list[str]
    encoded: int
    batches: int
    truncated: int = 0


def encode_images(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource],
    store: Features | None = None,
    normalised: bool = True,
    **options: Any,
) -> Tensor:
    """Encode images, each distinct one once.

    Args:
        model, processor, images: As in `store_images`.
        store (`Features`, optional): Where features are read from and kept; by default they are forgotten.
        normalised (`bool`): Whether embeddings get length 1; else they are as the model projects them.
        options: `batch_size`, `num_workers`, `progress` and `flush_every` of `store_images`.

    Returns:
        `torch.Tensor` of shape `(images, dim)`: float32, on the CPU, aligned with the request.
    """
    store = Features() if store is None else store
    features = store.read(store_images(model, processor, images, store, **options).keys)
    return normalize(features, dim=-1) if normalised else features


def encode_texts(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    texts: Sequence[str],
    store: Features | None = None,
    normalised: bool = True,
    **options: Any,
) -> Tensor:
    """Encode texts, each distinct one once.

    Args:
        model, processor, texts: As in `store_texts`.
        store (`Features`, optional): Where features are read from and kept; by default they are forgotten.
        normalised (`bool`): Whether embeddings get length 1; else they are as the model projects them.
        options: `batch_size`, `progress` and `flush_every` of `store_texts`.

    Returns:
        `torch.Tensor` of shape `(texts, dim)`: float32, on the CPU, aligned with the request.
    """
    store = Features() if store is None else store
    features = store.read(store_texts(model, processor, texts, store, **options).keys)
    return normalize(features, dim=-1) if normalised else features


def store_images(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    images: Sequence[ImageSource],
    store: Features,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: bool = True,
    flush_every: int = 16,
) -> Encoded:
    """Encode the images that a store does not know, and keep their embeddings there as the model projects them.

    Images are the same if their bytes are (files) or their pixels are (decoded images), crops if their boxes are too.
    A picture is decoded once for all its crops, unless these fill more than a batch. The model is left as it was found:
    device, data type, and the training mode of every module; so is torch's random state.

    Where `torch.distributed` is initialised, every process makes the same call and encodes its share of the batches.
    All end with all features, equal to the bit to those of one process. An interrupted run goes on where it was, with
    the batches that it would have met without the interruption.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model, with `get_image_features` and `get_text_features`.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.
        images (sequence of path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`): Whatever
            `compalign.data.images.open_image` reads, but for open files.
        store (`Features`): A `FeatureStore` of this very encoder, or `Features()` in memory.
        batch_size (`int`): Most images a forward pass.
        num_workers (`int`): Processes that decode images; 0 decodes in this one.
        progress (`bool`): Whether to show a progress bar.
        flush_every (`int`): Batches of each process between two writes: the most that an interruption loses.

    Returns:
        `Encoded`

    Raises:
        ValueError: If an image cannot be decoded, or the processes were asked for different images.
        FileNotFoundError: If an image file is missing.
    """
    picture_keys = _picture_keys(images)
    keys = _crop_keys(images, picture_keys)
    first = _first_positions(keys)
    same_picture: dict[str, list[str]] = {}
    for key in _missing_anywhere(store, keys):
        same_picture.setdefault(picture_keys[first[key]], []).append(key)
    batches = _packed(same_picture.values(), batch_size)
    rank, world = _place()
    pixels = DataLoader(
        _PixelBatches(
            [[[images[first[key]] for key in group] for group in batch] for batch in batches[rank::world]],
            processor.image_processor,
        ),
        batch_size=None,
        num_workers=num_workers,
        # A loader draws its workers' seed, from the global stream unless it is given another.
        generator=torch.Generator(),
    )
    keys_of = [[key for group in batch for key in group] for batch in batches]
    with evaluating(model), torch.inference_mode():
        features = (
            model.get_image_features(pixel_values=batch.to(model.device, model.dtype)).pooler_output
            for batch in tqdm(pixels, desc="images", unit="batch", disable=not progress or rank > 0)
        )
        _keep(store, keys_of, features, flush_every)
    return Encoded(keys, encoded=sum(map(len, keys_of)), batches=len(batches))


def store_texts(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    texts: Sequence[str],
    store: Features,
    batch_size: int = 256,
    progress: bool = True,
    flush_every: int = 16,
) -> Encoded:
    """Encode the texts that a store does not know, and keep their embeddings there as the model projects them.

    Texts are the same if their strings are. They pass in the order of length, so that where a model cannot see padding
    (see `compalign.data.tokenization.caption_padding`) each batch is trimmed to about the length of its texts. The rest
    is as in `store_images`.

    Args:
        model, processor, store, progress, flush_every: As in `store_images`.
        texts (sequence of `str`): Captions, labels in their templates, ...
        batch_size (`int`): Most texts a forward pass.

    Returns:
        `Encoded`

    Raises:
        ValueError: If the processes were asked for different texts.
    """
    tokenizer, longest = processor.tokenizer, text_length(model.config, processor.tokenizer)
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    first = _first_positions(keys)
    lengths = dict(zip(first, _token_counts(tokenizer, [texts[place] for place in first.values()]), strict=True))
    ordered = sorted(_missing_anywhere(store, keys), key=lengths.__getitem__)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    rank, world = _place()
    with evaluating(model), torch.inference_mode():
        features = (
            model.get_text_features(
                **tokenizer(
                    [texts[first[key]] for key in batch],
                    padding=caption_padding(model.config),
                    truncation=True,
                    max_length=longest,
                    return_tensors="pt",
                ).to(model.device)
            ).pooler_output
            for batch in tqdm(batches[rank::world], desc="texts", unit="batch", disable=not progress or rank > 0)
        )
        _keep(store, batches, features, flush_every)
    truncated = sum(length > longest for length in lengths.values())
    return Encoded(keys, encoded=len(ordered), batches=len(batches), truncated=truncated)


def feature_stores(
    folder: str | Path, model: PreTrainedModel, processor: ProcessorMixin, dtype: torch.dtype = torch.float32
) -> tuple[FeatureStore, FeatureStore]:
    """Open the stores of a model's image features and of its text features.

    Args:
        folder (`str` or `Path`): Where the features of all models are kept.
        model, processor: As in `store_images`.
        dtype (`torch.dtype`): What features are stored in: float32 or float16.

    Returns:
        `tuple[FeatureStore, FeatureStore]`: of images and of texts.
    """
    fingerprint = encoder_fingerprint(model, processor)
    return FeatureStore(folder, fingerprint["images"], dtype), FeatureStore(folder, fingerprint["texts"], dtype)


def image_keys(images: Sequence[ImageSource]) -> list[str]:
    """Hash the content of each image: its bytes (files) or its pixels (decoded images), and the box of a crop.

    Args:
        images (sequence of images): As in `store_images`.

    Returns:
        `list[str]`: equal keys, equal images.

    Raises:
        FileNotFoundError: If an image file is missing.
    """
    return _crop_keys(images, _picture_keys(images))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation, then each back to the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _keep(store: Features, batches: Sequence[list[str]], features: Iterator[Tensor], flush_every: int) -> None:
    """Put features of batches into the store; this process brings every world-th batch, and gets the others."""
    rank, world = _place()
    for start in range(0, len(batches), world * flush_every):
        together = batches[start : start + world * flush_every]
        # Widened at once: half precision cannot tell close scores apart once normalised.
        own = [next(features).float().cpu() for _ in together[rank::world]]
        parts = [own] * len(together)
        for other, brought in enumerate(_all_gathered(own)):
            parts[other::world] = brought
        keys = [key for batch in together for key in batch]
        # In turn, so that processes that share a folder write once: all batches of a turn or, if interrupted, none.
        for turn in (rank == 0, rank > 0):
            if turn and store.missing(keys):
                store.append(keys, torch.cat(parts))
            if world > 1:
                dist.barrier()


def _missing_anywhere(store: Features, keys: Sequence[str]) -> list[str]:
    """Return the distinct keys that the store of some process lacks; these share the work."""
    distinct = list(dict.fromkeys(keys))
    lacking = set(store.missing(distinct))
    request = hashlib.sha256("".join(distinct).encode()).hexdigest()
    requests, lacks = zip(*_all_gathered((request, [key in lacking for key in distinct])), strict=True)
    if len(set(requests)) > 1:
        raise ValueError(f"each of {len(requests)} processes must ask for the same, in the same order; they do not")
    return [key for key, *lacked in zip(distinct, *lacks, strict=True) if any(lacked)]


def _place() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _all_gathered(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    values = [value] * _place()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


class _PixelBatches(Dataset):
    """Pixel values of batches of images, decoded when asked for; an image or its crops stand together in a group."""

    def __init__(self, batches: list[list[list[ImageSource]]], image_processor: Any):
        self.batches = batches
        self.image_processor = image_processor

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Tensor:
        images = (image for group in self.batches[position] for image in _opened(group))
        pixels = [self.image_processor(images=image, return_tensors="pt")["pixel_values"][0] for image in images]
        return torch.stack(pixels)  # (batch, 3, height, width)


def _opened(group: list[ImageSource]) -> Iterator[Image.Image]:
    """Open a picture, and give what of it is asked for."""
    source = group[0].image if isinstance(group[0], ImageCrop) else group[0]
    picture = open_image(source)
    for image in group:
        yield crop_image(picture, image.box, image_name(source)) if isinstance(image, ImageCrop) else picture


def _packed(groups: Iterable[list[str]], size: int) -> list[list[list[str]]]:
    """Fill batches with groups; only a group that is larger than a batch is split."""
    batches, room = [], 0
    for group in groups:
        for start in range(0, len(group), size):
            piece = group[start : start + size]
            if len(piece) > room:
                batches.append([])
                room = size
            batches[-1].append(piece)
            room -= len(piece)
    return batches


def _first_positions(keys: Sequence[str]) -> dict[str, int]:
    """Where each distinct key is met first, in this order."""
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    return first


def _picture_keys(images: Sequence[ImageSource]) -> list[str]:
    """Hash the content of each image, or of the picture that it is cut from; a path that repeats is read once."""
    known: dict[str, str] = {}
    keys = []
    for image in images:
        if isinstance(image, ImageCrop):
            image = image.image
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


def _crop_keys(images: Sequence[ImageSource], picture_keys: Sequence[str]) -> list[str]:
    """Hash the pictures' keys with the boxes that are cut from them."""
    return [
        hashlib.sha256(f"{key} {[float(edge) for edge in image.box]}".encode()).hexdigest()
        if isinstance(image, ImageCrop)
        else key
        for image, key in zip(images, picture_keys, strict=True)
    ]


def _token_counts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """How many tokens each text has, both ends included."""
    counts = []
    for start in range(0, len(texts), _TEXTS_TOKENIZED_AT_ONCE):
        some = texts[start : start + _TEXTS_TOKENIZED_AT_ONCE]
        counts += map(len, tokenizer(some, padding=False, truncation=False, verbose=False)["input_ids"])
    return counts
