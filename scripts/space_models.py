"""The models of the Space: which there are, how they are loaded, and what they say of an image and its captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from ..data.components import Detector, extract
from ..data.components.files import describe
from ..data.components.rows import ImageComponents
from ..evaluation.components import encode_components
from ..evaluation.encoding import score_captions
from ..evaluation.matches import CaptionMatches, match_captions
from ..modeling import ComAlignModel
from .checkpoints import device, is_comalign, is_detector, is_dual_encoder, is_image_text_to_text
from .score import loading, model_name
from .space_inputs import scene_entities
from .tokens import TokenWeight, weigh_tokens

MOST_MODELS = 4
WEIGHTS = (".safetensors", ".bin")
KEPT = 4  # models of a kind that stay in memory


KINDS = {
    is_dual_encoder: "a dual encoder, such as CLIP",
    is_comalign: "a ComAlign head",
    is_image_text_to_text: "an image-text-to-text model, such as LLaVA",
    is_detector: "a detector, such as DETR or OWL-ViT",
}
Kind = Callable[[PreTrainedConfig], bool]


@dataclass(frozen=True)
class Library:
    """The models that are offered, and which others visitors may name.

    Args:
        places (`dict[str, str]`): Folder or Hub id of each offered model, by its name on the page.
        folders (`bool`): Whether visitors may name folders of this machine.
        most_gigabytes (`float`, *optional*): Largest download of a model that a visitor names; default: any.
    """

    places: dict[str, str]
    folders: bool = True
    most_gigabytes: float | None = None

    def names(self, kind: Kind) -> list[str]:
        """The offered models of a kind."""
        return [name for name, place in self.places.items() if kind(read_config(place))]

    def place(self, name: str | None, kind: Kind) -> str:
        """Find a model.

        Args:
            name (`str`, *optional*): The name of an offered model, a Hub id, or a folder.
            kind (`Callable`): One of `KINDS`.

        Returns:
            `str`: What `from_pretrained` takes.

        Raises:
            ValueError: If there is no name; if it is no Hub id, a closed folder, too large or of another kind; if it
                cannot be loaded.
        """
        if not name:
            raise ValueError(f"No model is chosen; accepted: {KINDS[kind]}")
        place = self.places.get(name) or self._named(name.strip())
        config = read_config(place)
        if not kind(config):
            raise ValueError(f"{name} is of type {config.model_type!r}; accepted: {KINDS[kind]}")
        return place

    def backbone(self, place: str) -> str:
        """Where the frozen encoder of ComAlign's heads is now: an offered model of its name, or else what they name.

        Raises:
            ValueError: If the heads name none; and as `place`, for whoever names heads names their encoder too.
        """
        backbone = read_config(place).backbone
        if backbone is None:
            raise ValueError(f"{model_name(place)} names no frozen encoder: set backbone in its config.json")
        name = Path(backbone).name
        return self.place(name if name in self.places else backbone, is_dual_encoder)

    def _named(self, name: str) -> str:
        """Check a model that a visitor named."""
        if Path(name).is_dir():
            if not self.folders:
                raise ValueError(f"{name}: folders are closed here; accepted: the models offered, and Hub ids")
            return name
        validate_repo_id(name)
        if self.most_gigabytes is not None:
            with loading(name):
                files = HfApi().model_info(name, files_metadata=True).siblings
            weights = sum(file.size or 0 for file in files if file.rfilename.endswith(WEIGHTS))
            if weights > 1e9 * self.most_gigabytes:
                raise ValueError(
                    f"{name} has {weights / 1e9:.1f} GB of weights; accepted here: at most {self.most_gigabytes:g} GB"
                )
        return name


@lru_cache
def read_config(place: str) -> PreTrainedConfig:
    """The configuration of a model; code beside it is never run."""
    with loading(place):
        return AutoConfig.from_pretrained(place, trust_remote_code=False)


def load(auto_class: type, place: str) -> Any:
    """A model in float32 for use; no pickle is read and no code beside it is run."""
    with loading(place):
        model = auto_class.from_pretrained(place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    return model.eval().to(device())


def load_processor(place: str) -> ProcessorMixin:
    """The processor of a model; no code beside it is run."""
    with loading(place):
        return AutoProcessor.from_pretrained(place, trust_remote_code=False)


@lru_cache(KEPT)
def load_dual_encoder(place: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A dual encoder with its processor."""
    return load(AutoModel, place), load_processor(place)


@lru_cache(KEPT)
def load_image_text_to_text(place: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """An image-text-to-text model with its processor."""
    return load(AutoModelForImageTextToText, place), load_processor(place)


@lru_cache(KEPT)
def load_comalign(place: str, backbone: str) -> tuple[ComAlignModel, ProcessorMixin]:
    """ComAlign's heads with the processor of their frozen encoder, which may lie elsewhere now than in training."""
    model = load(AutoModel, place)
    model.config.backbone = backbone
    return model, load_processor(backbone)


@lru_cache(KEPT)
def load_detector(place: str) -> Detector:
    """What finds the regions of photographs."""
    with loading(place):
        return Detector(place)


class Scores(NamedTuple):
    """What a dual encoder says of each caption: its cosine with the image, and its share of the softmax over all."""

    model: str
    cosines: list[float]
    shares: list[float]
    truncated: int

    @property
    def best(self) -> int:
        """The caption that the model prefers."""
        return int(np.argmax(self.cosines))


def compare(library: Library, names: Sequence[str], image: Image.Image, captions: Sequence[str]) -> list[Scores]:
    """Score captions with several models.

    Args:
        library (`Library`): Knows the models.
        names (sequence of `str`): 1 to `MOST_MODELS` of them.
        image (`PIL.Image.Image`): The image.
        captions (sequence of `str`): Its captions, true ones and false ones.

    Returns:
        `list[Scores]`: One a model. Shares are the softmax over the captions of logit scale x cosine.

    Raises:
        ValueError: If there is no model, or there are too many; and as `Library.place`.
    """
    if not 1 <= len(names) <= MOST_MODELS:
        raise ValueError(f"{len(names)} models are chosen; accepted: 1 to {MOST_MODELS}")
    found = []
    for name in names:
        model, processor = load_dual_encoder(library.place(name, is_dual_encoder))
        found.append(Scores(model_name(name), *score_captions(model, processor, image, captions)))
    return found


def match(
    library: Library, name: str | None, detector: str | None, image: Image.Image, captions: Sequence[str]
) -> tuple[ImageComponents, list[CaptionMatches]]:
    """Match the phrases of captions with the regions of an image.

    Args:
        library (`Library`): Knows the model.
        name (`str`, *optional*): A ComAlign head.
        detector (`str`, *optional*): What finds the entities, where the image is not one of the scenes.
        image, captions: As in `compare`.

    Returns:
        `tuple[ImageComponents, list[CaptionMatches]]`: the regions, and the matches of each caption.

    Raises:
        ValueError: If the image needs a detector and there is none; and as `Library.place`.
    """
    place = library.place(name, is_comalign)
    model, processor = load_comalign(place, library.backbone(place))
    phrases = extract(captions)
    entities = scene_entities(image)
    if entities is None:
        if not detector:
            raise ValueError("The regions of this image are unknown: name a detector, or choose one of the scenes.")
        wanted = dict.fromkeys(phrase for caption in phrases for phrase in caption.entities)
        entities = load_detector(library.place(detector, is_detector))("image", image, list(wanted))
    row = describe("image", image.size, entities, phrases, model.config.entities, model.config.relations)
    regions = row.entities, row.relations
    encoded = encode_components(
        model, processor, [image], captions, regions=lambda _: regions, phrases=lambda _: phrases, progress=False
    )
    return row, match_captions(model, encoded.output, phrases, *regions)


def weigh(
    library: Library, name: str | None, prompt: str | None, image: Image.Image, captions: Sequence[str]
) -> list[list[TokenWeight]]:
    """Weigh the tokens of each caption, as an answer about the image, as CAL does; see `weigh_tokens`."""
    model, processor = load_image_text_to_text(library.place(name, is_image_text_to_text))
    return [weigh_tokens(model, processor, image, prompt or "", caption) for caption in captions]
