"""Encoding of images, crops and texts: each distinct item once, shared among processes, and kept in a store."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from ..images import ImageCrop, ImageSource, crop_image, image_name, open_image
from ..processes import all_gathered, rank_and_world
from ..tokenization import caption_format, text_length
from .fingerprint import encoder_fingerprint
from .store import Features, FeatureStore

_TEXTS_TOKENIZED_AT_ONCE = 10_000


class Encoded(NamedTuple):
    """The keys of requested features, and the work that the request took.

    Args:
        keys (`list[str]`): Content key of each requested image or text, by which the store reads its features.
        encoded (`int`): Items that passed through the model, over all processes. The others were in the store.
        batches (`int`): Number of forward passes, over all processes.
        truncated (`int`): Distinct texts that are longer than the model reads, those in the store included.
    """

    keys: list[str]
    encoded: int
    batches: int
    truncated: int = 0


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
    """Encode the images that a store lacks, and keep their embeddings there as the model projects them.

    Two images are the same if their bytes (files) or their pixels (decoded images) are. Two crops are the same if their
    boxes are the same too. An image is decoded once for all its crops, unless they fill more than a batch. The model
    keeps its device, data type and training modes, and torch keeps its random state.

    If `torch.distributed` is initialised, every process must make the same call. Each encodes its share of the batches,
    and all of them end up with all features, bit for bit the same as with one process. After an interruption, the same
    call goes on with the remaining batches.

    Args:
        model (`PreTrainedModel`): Any CLIP-like model, with `get_image_features` and `get_text_features`.
        processor (`ProcessorMixin`): Its processor, with an image processor and a tokenizer.
        images (`Sequence` of path, `bytes`, `dict`, `PIL.Image.Image` or `ImageCrop`): Anything that
            `compalign.data.images.open_image` reads, except open files.
        store (`Features`): A `FeatureStore` of this encoder, or `Features()` in memory.
        batch_size (`int`): Largest number of images per forward pass.
        num_workers (`int`): Processes that decode images. 0 decodes in this process.
        progress (`bool`): Whether to show a progress bar.
        flush_every (`int`): Batches per process between two writes, which is also the most that an interruption loses.

    Returns:
        `Encoded`: The key of each image, and the work done.

    Raises:
        ValueError: If an image cannot be decoded, the processes request different images, or the model takes images
            of no fixed size.
        FileNotFoundError: If an image file is missing.
    """
    check_image_format(model.config)
    picture_keys = _picture_keys(images)
    keys = _crop_keys(images, picture_keys)
    first, _ = distinct(keys)
    same_picture: dict[str, list[str]] = {}
    for key in _missing_anywhere(store, keys):
        same_picture.setdefault(picture_keys[first[key]], []).append(key)
    batches = _packed(same_picture.values(), batch_size)
    rank, world = rank_and_world()
    pixels = DataLoader(
        _PixelBatches(
            [[[images[first[key]] for key in group] for group in batch] for batch in batches[rank::world]],
            processor.image_processor,
        ),
        batch_size=None,
        num_workers=num_workers,
        # A loader draws the seed of its workers from the global stream unless it has a generator of its own.
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
    """Encode the texts that a store lacks, and keep their embeddings there as the model projects them.

    Texts are batched by length, so that little padding is needed if the model cannot see it (see
    `compalign.data.tokenization.caption_format`). Everything else is as in `store_images`.

    Args:
        model, processor, store, progress, flush_every: As in `store_images`.
        texts (`Sequence[str]`): Captions, or any other texts.
        batch_size (`int`): Largest number of texts per forward pass.

    Returns:
        `Encoded`: The key of each text, and the work done.

    Raises:
        ValueError: If the processes request different texts.
    """
    tokenizer, longest = processor.tokenizer, text_length(model.config, processor.tokenizer)
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    first, _ = distinct(keys)
    lengths = dict(zip(first, _token_counts(tokenizer, [texts[place] for place in first.values()]), strict=True))
    ordered = sorted(_missing_anywhere(store, keys), key=lengths.__getitem__)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    rank, world = rank_and_world()
    with evaluating(model), torch.inference_mode():
        features = (
            model.get_text_features(
                **tokenizer(
                    [texts[first[key]] for key in batch],
                    truncation=True,
                    return_tensors="pt",
                    **caption_format(model.config, tokenizer),
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
        folder (`str` or `Path`): Folder of the features of all models.
        model, processor: As in `store_images`.
        dtype (`torch.dtype`): Data type of the stored features, float32 or float16.

    Returns:
        `tuple[FeatureStore, FeatureStore]`: the store of images and the store of texts.
    """
    fingerprint = encoder_fingerprint(model, processor)
    return FeatureStore(folder, fingerprint["images"], dtype), FeatureStore(folder, fingerprint["texts"], dtype)


def image_keys(images: Sequence[ImageSource]) -> list[str]:
    """Hash the content of each image: its bytes (files) or its pixels (decoded images), and the box of a crop.

    Args:
        images (`Sequence`): Images as in `store_images`.

    Returns:
        `list[str]`: One key per image. Equal keys mean equal images.

    Raises:
        FileNotFoundError: If an image file is missing.
    """
    return _crop_keys(images, _picture_keys(images))


def check_image_format(config: PretrainedConfig) -> None:
    """Refuse dual encoders whose images have no fixed size.

    Raises:
        ValueError: If the model is a SigLIP2 of the NaFlex kind.
    """
    if config.model_type == "siglip2":
        raise ValueError(
            "SigLIP2 NaFlex (model type 'siglip2') reads an image as a list of patches with its shape, which is not "
            "supported; use a SigLIP2 of fixed resolution, such as google/siglip2-base-patch16-224"
        )


def distinct(keys: Sequence[str]) -> tuple[dict[str, int], list[int]]:
    """Index keys in the order of their first occurrence.

    Args:
        keys (sequence of `str`): Keys, with repetitions.

    Returns:
        `tuple[dict[str, int], list[int]]`: the position of each distinct key's first occurrence, and, aligned with
        `keys`, the number of each key among the distinct ones.
    """
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    number = {key: row for row, key in enumerate(first)}
    return first, [number[key] for key in keys]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation mode, and restore the mode of each afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _keep(store: Features, batches: Sequence[list[str]], features: Iterator[Tensor], flush_every: int) -> None:
    """Put the features of batches into the store: every world-th batch from this process, the others received."""
    rank, world = rank_and_world()
    for start in range(0, len(batches), world * flush_every):
        together = batches[start : start + world * flush_every]
        # Converted to float32 before they are normalised: half precision would merge close scores.
        own = [next(features).float().cpu() for _ in together[rank::world]]
        parts = [own] * len(together)
        for other, brought in enumerate(all_gathered(own)):
            parts[other::world] = brought
        keys = [key for batch in together for key in batch]
        # Rank 0 writes first, so that processes that share a folder write all batches of a turn only once.
        for turn in (rank == 0, rank > 0):
            if turn and store.missing(keys):
                store.append(keys, torch.cat(parts))
            all_gathered(None)  # waits until every process has finished the turn


def _missing_anywhere(store: Features, keys: Sequence[str]) -> list[str]:
    """Return the distinct keys that the store of any process lacks."""
    requested = list(dict.fromkeys(keys))
    lacking = set(store.missing(requested))
    request = hashlib.sha256("".join(requested).encode()).hexdigest()
    requests, lacks = zip(*all_gathered((request, [key in lacking for key in requested])), strict=True)
    if len(set(requests)) > 1:
        raise ValueError(f"all {len(requests)} processes must request the same items in the same order; they do not")
    return [key for key, *lacked in zip(requested, *lacks, strict=True) if any(lacked)]


class _PixelBatches(Dataset):
    """Pixel values of batches of images, decoded on access. A batch is a list of groups: an image, or crops of one."""

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
    """Open an image once, and yield it or its crops."""
    source = group[0].image if isinstance(group[0], ImageCrop) else group[0]
    picture = open_image(source)
    for image in group:
        yield crop_image(picture, image.box, image_name(source)) if isinstance(image, ImageCrop) else picture


def _packed(groups: Iterable[list[str]], size: int) -> list[list[list[str]]]:
    """Fill batches with groups. Only a group that is larger than a batch is split."""
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


def _picture_keys(images: Sequence[ImageSource]) -> list[str]:
    """Hash the content of each image, or of the image that a crop is cut from. A repeated path is read once."""
    known: dict[str, str] = {}
    keys = []
    for requested in images:
        image: Any = requested.image if isinstance(requested, ImageCrop) else requested
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
    """Combine the key of each crop's image with its box."""
    return [
        hashlib.sha256(f"{key} {[float(edge) for edge in image.box]}".encode()).hexdigest()
        if isinstance(image, ImageCrop)
        else key
        for image, key in zip(images, picture_keys, strict=True)
    ]


def _token_counts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Count the tokens of each text, BOS and EOS included."""
    counts = []
    for start in range(0, len(texts), _TEXTS_TOKENIZED_AT_ONCE):
        some = texts[start : start + _TEXTS_TOKENIZED_AT_ONCE]
        counts += map(len, tokenizer(some, padding=False, truncation=False, verbose=False)["input_ids"])
    return counts
