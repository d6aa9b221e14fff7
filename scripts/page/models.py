"""The models of the page: which there are, how they are loaded, and what they say of an image and its captions.

Visitors name models too. No code beside a model is run, and no pickle is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin
from transformers.utils import cached_file

from ...data.components import Detector, extract
from ...data.components.files import describe
from ...data.components.rows import ImageComponents
from ...evaluation.scorers.comalign import encode_components
from ...evaluation.scorers.dual_encoder import score_captions
from ...evaluation.scorers.matches import CaptionMatches, match_captions
from ...modeling import ComAlignModel
from ...modeling.kinds import ADAPTER, Kind, default_device, kind_of, load_model, load_processor, name_of
from ..scoring.kinds import IN_WORDS
from ..tokens import TokenWeight, weigh_tokens
from .inputs import scene_entities

MOST_MODELS = 4
WEIGHTS = (".safetensors", ".bin")
SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SAFE_ADAPTER = "adapter_model.safetensors"
SAFELY = {"trust_remote_code": False}
MODELS_IN_MEMORY = 4  # of each kind


@dataclass(frozen=True)
class Library:
    """The models that are offered, and which others visitors may name.

    Args:
        places (`dict[str, str]`): Folder or Hub id of each offered model, by its name on the page.
        folders (`bool`): Whether visitors may name folders of this machine.
        most_gigabytes (`float`, *optional*): Largest download of a model that a visitor names; default: any size.
    """

    places: dict[str, str]
    folders: bool = True
    most_gigabytes: float | None = None

    def names(self, kind: Kind) -> list[str]:
        """The offered models of a kind."""
        return [name for name, place in self.places.items() if read_kind(place) is kind]

    def place(self, name: str | None, kind: Kind) -> str:
        """Find a model.

        Args:
            name (`str`, *optional*): The name of an offered model, a Hub id, or a folder.
            kind (`Kind`): The kind that is wanted.

        Returns:
            `str`: Its folder or Hub id.

        Raises:
            ValueError: If there is no name; if it is no Hub id, a closed folder, too large or of another kind; if it
                cannot be loaded.
        """
        if not name:
            raise ValueError(f"No model is chosen; accepted: {IN_WORDS[kind]}")
        place = self.places.get(name) or self._named(name.strip())
        found = read_kind(place)
        if found is not kind:
            raise ValueError(f"{name} is {IN_WORDS[found]}; accepted: {IN_WORDS[kind]}")
        return place

    def backbone(self, place: str) -> str:
        """Find the frozen encoder of ComAlign's heads: an offered model of its name, or else the one that they name.

        Raises:
            ValueError: If the heads name none; and as `place`, since whoever names heads names their encoder too.
        """
        backbone = load_heads(place).config.backbone
        if backbone is None:
            raise ValueError(f"{name_of(place)} names no frozen encoder: set backbone in its config.json")
        name = Path(backbone).name
        return self.place(name if name in self.places else backbone, Kind.DUAL_ENCODER)

    def _named(self, name: str) -> str:
        """Check a model that a visitor named."""
        if Path(name).is_dir():
            if not self.folders:
                raise ValueError(f"{name}: folders are closed here; accepted: the models offered, and Hub ids")
            return name
        validate_repo_id(name)
        if self.most_gigabytes is not None or not self.folders:
            self._check_files(name)
        return name

    def _check_files(self, name: str) -> None:
        """Check what a repository holds, before anything of it is fetched."""
        try:
            files = HfApi().model_info(name, files_metadata=True).siblings
        except OSError as error:
            raise ValueError(f"{name} cannot be loaded: {' '.join(str(error).split())}") from error
        # An adapter names its base, which may be a folder of this machine, or a model of any size.
        if not self.folders and any(file.rfilename == ADAPTER for file in files):
            raise ValueError(f"{name} is an adapter; accepted here: whole models")
        weights = sum(file.size or 0 for file in files if file.rfilename.endswith(WEIGHTS))
        if self.most_gigabytes is not None and weights > 1e9 * self.most_gigabytes:
            raise ValueError(
                f"{name} has {weights / 1e9:.1f} GB of weights; accepted here: at most {self.most_gigabytes:g} GB"
            )


@lru_cache
def read_kind(place: str) -> Kind:
    """Return the kind of a model; it is looked up once."""
    return kind_of(place)


def load(place: str) -> PreTrainedModel:
    """Load a model in float32 on the default device; an adapter is merged into its base.

    Raises:
        ValueError: As `load_model`; if the weights are no safetensors.
    """
    adapter = cached_file(place, ADAPTER, _raise_exceptions_for_missing_entries=False)
    if adapter is not None and not Path(adapter).with_name(SAFE_ADAPTER).is_file():
        raise ValueError(f"{place} has no {SAFE_ADAPTER}; accepted: adapters in safetensors")
    return load_model(place, merge_adapter=True, **SAFELY, use_safetensors=True).to(default_device())


@lru_cache(MODELS_IN_MEMORY)
def load_dual_encoder(place: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a dual encoder with its processor."""
    return load(place), load_processor(place, **SAFELY)


@lru_cache(MODELS_IN_MEMORY)
def load_image_text_to_text(place: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load an image-text-to-text model with its processor."""
    return load(place), load_processor(place, **SAFELY)


@lru_cache(MODELS_IN_MEMORY)
def load_heads(place: str) -> ComAlignModel:
    """Load ComAlign's heads without their frozen encoder."""
    return load(place)


def load_comalign(place: str, backbone: str) -> tuple[ComAlignModel, ProcessorMixin]:
    """Load ComAlign's heads, with their frozen encoder from where it is now, and the encoder's processor."""
    model = load_heads(place)
    encoder, processor = load_dual_encoder(backbone)
    vars(model)["backbone"] = encoder  # where the model would keep the encoder that it loads itself
    return model, processor


@lru_cache(MODELS_IN_MEMORY)
def load_detector(place: str) -> Detector:
    """Load the detector that finds the regions of photographs.

    Raises:
        ValueError: If it has no safetensors, or cannot be loaded.
    """
    if not any(cached_file(place, name, _raise_exceptions_for_missing_entries=False) for name in SAFE_WEIGHTS):
        raise ValueError(f"{place} has none of {', '.join(SAFE_WEIGHTS)}; accepted: detectors in safetensors")
    return Detector(place)


class Scores(NamedTuple):
    """A dual encoder's cosine of each caption with the image, and the share of each caption in the softmax over all."""

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
        names (sequence of `str`): Names of 1 to `MOST_MODELS` models.
        image (`PIL.Image.Image`): The image.
        captions (sequence of `str`): Its captions, true ones and false ones.

    Returns:
        `list[Scores]`: One per model. Shares are the softmax over the captions of logit scale x cosine.

    Raises:
        ValueError: If there is no model, or there are too many; and as `Library.place`.
    """
    if not 1 <= len(names) <= MOST_MODELS:
        raise ValueError(f"{len(names)} models are chosen; accepted: 1 to {MOST_MODELS}")
    found = []
    for name in names:
        model, processor = load_dual_encoder(library.place(name, Kind.DUAL_ENCODER))
        found.append(Scores(name_of(name), *score_captions(model, processor, image, captions)))
    return found


def match(
    library: Library, name: str | None, detector: str | None, image: Image.Image, captions: Sequence[str]
) -> tuple[ImageComponents, list[CaptionMatches]]:
    """Match the phrases of captions with the regions of an image.

    Args:
        library (`Library`): Knows the model.
        name (`str`, *optional*): ComAlign's heads.
        detector (`str`, *optional*): The detector that finds the entities, unless the image is one of the scenes.
        image, captions: As in `compare`.

    Returns:
        `tuple[ImageComponents, list[CaptionMatches]]`: the regions, and the matches of each caption.

    Raises:
        ValueError: If the image needs a detector and there is none; and as `Library.place`.
    """
    place = library.place(name, Kind.COMALIGN)
    model, processor = load_comalign(place, library.backbone(place))
    phrases = extract(captions)
    entities = scene_entities(image)
    if entities is None:
        if not detector:
            raise ValueError("The regions of this image are unknown: name a detector, or choose one of the scenes.")
        wanted = dict.fromkeys(phrase for caption in phrases for phrase in caption.entities)
        entities = load_detector(library.place(detector, Kind.DETECTOR))("image", image, list(wanted))
    row = describe("image", image.size, entities, phrases, model.config.entities, model.config.relations)
    regions = row.entities, row.relations
    encoded = encode_components(
        model, processor, [image], captions, regions=lambda _: regions, phrases=lambda _: phrases, progress=False
    )
    return row, match_captions(model, encoded.output, phrases, *regions)


def weigh(
    library: Library, name: str | None, prompt: str | None, image: Image.Image, captions: Sequence[str]
) -> list[list[TokenWeight]]:
    """Weigh the tokens of each caption, as an answer about the image, as CAL does.

    Args:
        library (`Library`): Knows the model.
        name (`str`, *optional*): An image-text-to-text model.
        prompt (`str`, *optional*): The user's words before the answer.
        image, captions: As in `compare`.

    Returns:
        `list[list[TokenWeight]]`: One list per caption; see `weigh_tokens`.
    """
    model, processor = load_image_text_to_text(library.place(name, Kind.IMAGE_TEXT_TO_TEXT))
    return [weigh_tokens(model, processor, image, prompt or "", caption) for caption in captions]
