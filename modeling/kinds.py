"""One door to a model: what kind of model a folder or a Hub id holds, the model, and the processor that fits it.

Every command opens models here, so that what is wrong with a folder is said once, in one sentence, whoever asks.
"""

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils import cached_file

from .comalign import ComAlignConfig

if TYPE_CHECKING:
    from peft import PeftConfig

TWO_TOWERS = "vision-text-dual-encoder"  # any two towers; transformers does not list it for zero-shot classification
# Dual encoders whose similarities have a temperature, or nothing, in place of the logit scale.
WITHOUT_LOGIT_SCALE = frozenset({"align", "tipsv2", "videoprism"})
DETECTORS = (MODEL_FOR_OBJECT_DETECTION_MAPPING, MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING)
ADAPTER = "adapter_config.json"
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
FILES_OF_WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz")
# Fewer tokens than this share of the embedding rows were never the tokens that the rows were trained on. Vocabularies
# padded to a multiple of 64 or 128 keep more.
LEAST_SHARE_OF_VOCABULARY = 0.9
LEGACY_EOS = 2  # in OpenAI's configurations of CLIP: the end of a text is then its largest token id


class Kind(Enum):
    """What a model does with images and texts."""

    DUAL_ENCODER = "dual encoder"
    COMALIGN = "ComAlign"
    IMAGE_TEXT_TO_TEXT = "image-text-to-text model"
    DETECTOR = "object detector"


def kind_of(path: str | Path, revision: str | None = None) -> Kind:
    """Say what kind of model a folder or a Hub id holds; an adapter is of the kind of its base.

    Args:
        path (`str` or `Path`): Folder or Hub id of a model or an adapter.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Returns:
        `Kind`

    Raises:
        ValueError: If there is no such folder or repository, or it holds no model of a known kind.
    """
    return kind_of_config(_config(_look_up(path, revision)), str(path))


def kind_of_config(config: PreTrainedConfig, name: str) -> Kind:
    """Say what kind of model a configuration belongs to.

    Raises:
        ValueError: If it is none of the kinds; `name` is what the message calls the model.
    """
    if isinstance(config, ComAlignConfig):
        return Kind.COMALIGN
    # Before dual encoders: BLIP is listed as both, and its checkpoints are seldom of the dual encoder.
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return Kind.IMAGE_TEXT_TO_TEXT
    if type(config) in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING or config.model_type == TWO_TOWERS:
        return Kind.DUAL_ENCODER
    if (
        type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING
        or type(config) in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING
    ):
        return Kind.DETECTOR
    raise ValueError(
        f"{name} is of type {config.model_type!r}; accepted: comalign, {', '.join(dual_encoder_types())} and "
        "image-text-to-text models, such as llava"
    )


def load_config(path: str | Path, revision: str | None = None) -> PreTrainedConfig:
    """Load the configuration of a model, or of an adapter's base.

    Raises:
        ValueError: As `load_model`.
    """
    return _config(_look_up(path, revision))


def dual_encoder_types() -> list[str]:
    """The model types of dual encoders, sorted."""
    return sorted({*(kind.model_type for kind in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING), TWO_TOWERS})


def load_model(
    path: str | Path,
    model_class: Any = None,
    *,
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    merge_adapter: bool = False,
    trust_remote_code: bool = False,
    **options: Any,
) -> Any:
    """Load a model of any kind, in evaluation mode on the CPU; an adapter over its base.

    Example:

    ```python
    >>> from compalign.modeling import load_model
    >>> type(load_model("hub_cards/released/scenes_base")).__name__
    'CLIPModel'

    ```

    Args:
        path (`str` or `Path`): Folder or Hub id of a dual encoder, ComAlign's heads, an image-text-to-text model, or an
            adapter of one of them.
        model_class (`type`, *optional*): Class to load a model into, such as `CECLIPModel`; default: by its kind. An
            adapter is loaded over the class that it was trained on.
        dtype (`torch.dtype` or `str`): Data type of the weights; "auto" keeps that of the file.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        merge_adapter (`bool`): Merge an adapter into its base, which gives a plain model.
        trust_remote_code (`bool`): Run the code that lies beside a model of an unknown type.
        options: Further arguments of `from_pretrained`: fields of the configuration, `quantization_config`.

    Returns:
        `PreTrainedModel`, or `PeftModel` for an adapter that is not merged.

    Raises:
        ValueError: In one sentence: if there is no such folder or repository; if it is a file of weights, which
            `compalign convert` reads; if it holds no model of a known kind, or weights that do not fit.
    """
    place = _look_up(path, revision)
    options["trust_remote_code"] = trust_remote_code
    if place.adapter is not None:
        with _one_sentence(path):
            model = _load_adapted(place, str(path), model_class, dtype, options)
        return model.merge_and_unload(safe_merge=True) if merge_adapter else model.eval()
    if model_class is None:
        kind = kind_of_config(_config(place, trust_remote_code), str(path))
        model_class = AutoModelForImageTextToText if kind is Kind.IMAGE_TEXT_TO_TEXT else AutoModel
    located = {} if revision is None else {"revision": revision}
    with _one_sentence(path):
        model, loaded = model_class.from_pretrained(path, dtype=dtype, output_loading_info=True, **located, **options)
    _refuse_missing(loaded, model, path)
    return model.eval()


def load_weights(model: PreTrainedModel, folder: str) -> None:
    """Load the weights of a checkpoint into a model, in place.

    `save_pretrained` may write other names than those of the model's parameters, as it does for LLaVA; they are read as
    `from_pretrained` reads them. The Trainer loads by its own names and passes over all that differ.

    Args:
        model (`PreTrainedModel`): Of the class that was saved.
        folder (`str`): Checkpoint.

    Raises:
        ValueError: If the checkpoint lacks weights of the model.
    """
    # Frozen weights may be saved in half precision, and "auto" takes one data type for all.
    whole = {"config": model.config, "dtype": torch.float32, "output_loading_info": True}
    saved, loaded = type(model).from_pretrained(folder, **whole)
    _refuse_missing(loaded, model, folder)
    model.load_state_dict(saved.state_dict())


def load_processor(
    path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False, **options: Any
) -> ProcessorMixin:
    """Load the processor of a model of any kind, and check that its tokenizer is the model's.

    Args:
        path (`str` or `Path`): Folder or Hub id; that of an adapter may have no processor, then it is its base's.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        trust_remote_code (`bool`): Run the code that lies beside a processor of an unknown type.
        options: Further arguments of `from_pretrained`.

    Returns:
        `ProcessorMixin`, with an image processor and a tokenizer.

    Raises:
        ValueError: In one sentence: as `load_model`; if there is no image processor or tokenizer, or the tokenizer does
            not fit the vocabulary of the model.
    """
    place = _look_up(path, revision)
    own = place.adapter is not None and any(Path(place.adapter, name).exists() for name in PROCESSOR_FILES)
    source = place.adapter if own else place.model
    config = _config(place, trust_remote_code)
    options |= {"revision": None if own else place.revision, "trust_remote_code": trust_remote_code}
    with _one_sentence(path):
        processor = AutoProcessor.from_pretrained(source, **options)
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ValueError(f"{source} has no processor of images and texts, only a {type(processor).__name__}")
    check_tokenizer(processor.tokenizer, config, str(source))
    return processor


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, name: str) -> None:
    """Refuse a tokenizer that cannot be the model's: where files are missing, transformers makes up an empty one.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): What was loaded.
        config (`PreTrainedConfig`): Of the model.
        name (`str`): What the message calls the model.

    Raises:
        ValueError: If it has ids beyond the vocabulary, far fewer tokens, or another end of text.
    """
    text = config.get_text_config()
    rows = getattr(text, "vocab_size", None)
    if rows is None:
        return
    tokens, largest = len(tokenizer), max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows or tokens < LEAST_SHARE_OF_VOCABULARY * rows:
        raise ValueError(
            f"{name}: a tokenizer of {tokens:,} tokens does not fit a model with a vocabulary of {rows:,}; are the "
            "tokenizer's files missing?"
        )
    end = getattr(text, "eos_token_id", None)
    if text.model_type == "clip_text_model" and end not in (LEGACY_EOS, None, tokenizer.eos_token_id):
        raise ValueError(
            f"{name}: the tokenizer ends a text with id {tokenizer.eos_token_id}, the model reads it at id {end}: they "
            "are not of one model"
        )


def name_of(path: str | Path) -> str:
    """What people call a model: the name of its folder, or its Hub id."""
    return Path(path).resolve().name if Path(path).is_dir() else str(path)


def default_device() -> torch.device:
    """Where models go: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_class_of(config: "PeftConfig", adapter: str | Path) -> type[PreTrainedModel]:
    """The class of ours or of transformers on which an adapter was trained; nothing else is imported.

    Raises:
        ValueError: If there is no such class, or no base is named.
    """
    from .. import modeling

    if not config.base_model_name_or_path:
        raise ValueError(f"{adapter}: {ADAPTER} names no base; set base_model_name_or_path")
    name = (config.auto_mapping or {}).get("base_model_class")
    library = modeling if name in modeling.__all__ else transformers
    found = getattr(library, str(name), None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"{adapter}: auto_mapping names {name!r}; accepted: models of compalign and transformers")
    return found


def _load_adapted(
    place: "_Place", name: str, model_class: Any, dtype: torch.dtype | str, options: dict[str, Any]
) -> Any:
    """Load an adapter over its base: a model of the class that is asked for, or that it was trained on."""
    from peft import PeftConfig, PeftModel

    if model_class in (None, AutoModel):
        model_class = model_class_of(PeftConfig.from_pretrained(place.adapter), name)
    base = model_class.from_pretrained(place.model, dtype=dtype, **options)
    return PeftModel.from_pretrained(base, place.adapter)


class _Place(NamedTuple):
    """Where a model is: its folder or Hub id, which of an adapter is its base's, and the folder of the adapter."""

    model: str | Path
    revision: str | None
    adapter: Path | None


def _look_up(path: str | Path, revision: str | None) -> _Place:
    """Find out what a path names; an adapter on the Hub is brought here.

    Raises:
        ValueError: If it names no model.
    """
    _check_place(path)
    adapter = _adapter_folder(path, revision)
    if adapter is None:
        return _Place(path, revision, None)
    base = json.loads((adapter / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{path}: {ADAPTER} names no base; set base_model_name_or_path")
    base = _beside(base, adapter)
    _check_place(base)
    return _Place(base, None, adapter)


def _config(place: _Place, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a model, or of an adapter's base."""
    with _one_sentence(place.model):
        return AutoConfig.from_pretrained(place.model, revision=place.revision, trust_remote_code=trust_remote_code)


def _check_place(path: str | Path) -> None:
    """Refuse what is neither a folder with a model nor a possible Hub id, and say what it is instead."""
    place = Path(path)
    if place.is_file():
        if place.suffix in FILES_OF_WEIGHTS:
            raise ValueError(
                f"{path} is a file of weights, not a model folder; convert it first: "
                f"compalign convert --source {path} --output_dir {place.with_suffix('').name}"
            )
        raise ValueError(f"{path} is a file; wanted is the folder of a model, or a Hub id")
    if place.is_dir():
        if not any((place / name).is_file() for name in ("config.json", ADAPTER)):
            raise ValueError(f"{path} holds no config.json and no {ADAPTER}{_what_instead(place)}")
        return
    try:
        validate_repo_id(str(path))
        is_id = str(path).count("/") <= 1
    except HFValidationError:
        is_id = False
    if not is_id or (place.parent.is_dir() and str(place.parent) != "."):
        raise ValueError(f"there is no folder {path}{_nearest(place)}")


def _what_instead(folder: Path) -> str:
    """Name what a folder without a model holds that a user may mean."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    inside += sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER}"))
    files = sorted(path.name for path in folder.iterdir() if path.suffix in FILES_OF_WEIGHTS)
    if inside:
        return f"; it has folders that do: {', '.join(inside)}"
    if files:
        return f"; it has {', '.join(files[:3])}, which compalign convert reads"
    return ""


def _nearest(place: Path) -> str:
    """Name the folder beside it that is spelled most like it."""
    beside = [path.name for path in place.parent.iterdir() if path.is_dir()] if place.parent.is_dir() else []
    near = difflib.get_close_matches(place.name, beside, n=1)
    return f"; the nearest is {place.parent / near[0]}" if near else ""


def _adapter_folder(path: str | Path, revision: str | None) -> Path | None:
    """The folder of an adapter, brought from the Hub where it is there; None for a whole model."""
    if Path(path).is_dir():
        return Path(path) if not (Path(path) / "config.json").is_file() else None
    with _one_sentence(path):
        whole, adapter = (
            cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
            for name in ("config.json", ADAPTER)
        )
        return Path(snapshot_download(str(path), revision=revision)) if adapter and not whole else None


def _refuse_missing(loaded: dict[str, Any], model: PreTrainedModel, path: str | Path) -> None:
    """Refuse weights that do not fill the model: transformers draws the others at random, with a warning."""
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"{path} lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}")


def _beside(base: str, adapter: Path) -> str | Path:
    """The base as it is named, or, where no folder has that name here, beside the adapter."""
    return adapter / base if not Path(base).is_dir() and (adapter / base).is_dir() else base


@contextmanager
def _one_sentence(path: str | Path) -> Iterator[None]:
    """Turn what transformers raises where it finds nothing, or nothing that fits, into an error of one sentence."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be loaded: {reason}") from error
