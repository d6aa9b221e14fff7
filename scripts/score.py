"""Score captions of an image with any model, and show what the scores rest on.

    compalign score photo.jpg "a red circle above a blue star" "a blue circle above a red star" \
        --model hub_cards/released/scenes_base --output_dir score

The image and the captions come first, then the flags; a recipe may name them instead. Dual encoders give cosines;
ComAlign says which region of the image each phrase is most like, with regions from --detector or --components;
image-text-to-text models give the likelihood of each caption as an answer. Writes score.png into the output folder.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import torch
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

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..data.components import Detector, extract
from ..data.components.detection import Finder
from ..data.images import open_image
from ..evaluation.answers import AnswerScorer
from ..evaluation.components import encode_components
from ..evaluation.encoding import score_captions
from ..evaluation.matches import CaptionMatches, match_captions
from ..trainers.recipe import parse_recipe
from .checkpoints import device, dual_encoder_types, is_comalign, is_dual_encoder, is_image_text_to_text
from .score_components import detect_regions, left_out, lines_of, read_regions
from .score_picture import Bar, draw_bars, draw_matches


@dataclass
class ScoreArguments:
    """What to score, and with what."""

    model: str = field(metadata={"help": "Dual encoder, ComAlign or image-text-to-text model: a Hub id or a folder."})
    image: str | None = field(default=None, metadata={"help": "Image file; or the first word of the line."})
    captions: list[str] = field(default_factory=list, metadata={"help": "Captions; or the words after the image."})
    output_dir: str = field(default="score", metadata={"help": "Where score.png goes."})
    detector: str | None = field(
        default=None, metadata={"help": "ComAlign: finds the regions; a Hub id or a folder; may be zero-shot."}
    )
    threshold: float | None = field(
        default=None, metadata={"help": "Least score of a box, 0 to 1; default 0.5, zero-shot 0.1."}
    )
    components: str | None = field(
        default=None, metadata={"help": "ComAlign: folder of components.jsonl, which has the regions of the image."}
    )
    prompt: str = field(default="Describe the image.", metadata={"help": "Image-text-to-text: what the user says."})


class CaptionScore(NamedTuple):
    """A caption, its score, and what is easier to read: its share among the captions, or a token's probability."""

    caption: str
    score: float
    probability: float


def main(arguments: list[str] | None = None) -> list[CaptionScore] | list[CaptionMatches]:
    """Score, print and draw, the best caption first."""
    line = with_flags(sys.argv[1:] if arguments is None else arguments)
    (args,) = parse_recipe(ScoreArguments, arguments=line, description=__doc__)
    check(args)
    image = open_image(args.image)
    with loading(args.model):
        config = AutoConfig.from_pretrained(args.model)
    score = scorer(config, args.model)
    if (args.detector or args.components) and score is not score_components:
        raise ValueError(f"detector and components are for ComAlign; {args.model} is of type {config.model_type!r}")
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    scores = score(args, image)
    print(f"wrote {picture(args)}")
    return scores


def with_flags(line: Sequence[str]) -> list[str]:
    """The words before the first flag as what they stand for: --image, then --captions.

    Raises:
        ValueError: If a flag says the same again.
    """
    words = list(takewhile(lambda word: not word.startswith("-"), line))
    flags = {"--image": words[:1], "--captions": words[1:]}
    rest = list(line[len(words) :])
    for flag, values in flags.items():
        if values and flag in {word.split("=")[0] for word in rest}:
            raise ValueError(f"command line: {flag} is given twice, as {' '.join(values)!r} and as a flag")
    return [word for flag, values in flags.items() if values for word in (flag, *values)] + rest


def check(args: ScoreArguments) -> None:
    """Refuse a line that lacks something or says it twice."""
    usage = 'compalign score IMAGE "CAPTION" "CAPTION" --model MODEL'
    if args.image is None:
        raise ValueError(f"no image: {usage}")
    if not args.captions:
        raise ValueError(f"no caption: {usage}")
    for caption in args.captions:
        if not caption.strip():
            raise ValueError(f"caption {caption!r} is empty")
        if args.captions.count(caption) > 1:
            raise ValueError(f"caption {caption!r} is given twice")
    if args.detector is not None and args.components is not None:
        raise ValueError("regions come from --detector or from --components: give one of them")


def scorer(config: PreTrainedConfig, model: str) -> Callable[[ScoreArguments, Image.Image], list]:
    """What scores captions with a model of this type."""
    if is_comalign(config):
        return score_components
    # Before dual encoders: BLIP is listed as both, and its checkpoints are seldom of the dual encoder.
    if is_image_text_to_text(config):
        return score_answers
    if is_dual_encoder(config):
        return score_dual
    raise ValueError(
        f"{model} is of type {config.model_type!r}; accepted: comalign, {', '.join(dual_encoder_types())} and "
        "image-text-to-text models, such as llava"
    )


def score_dual(args: ScoreArguments, image: Image.Image) -> list[CaptionScore]:
    """Cosines, and their softmax by the model's logit scale."""
    model, processor = load(AutoModel, args.model)
    cosines, shares, truncated = score_captions(model, processor, image, args.captions)
    if truncated:
        print(f"captions longer than the model reads, and cut: {truncated}")
    scale = model.logit_scale.exp().item()
    note = f"{model_name(args.model)}: cosine with the image, and share of each caption (softmax at scale {scale:.1f})"
    return report(args, image, zip(cosines, shares, strict=True), ("cosine", "share"), note)


def score_answers(args: ScoreArguments, image: Image.Image) -> list[CaptionScore]:
    """Mean log-likelihoods of a token of each caption, and the probabilities that they are of."""
    model, processor = load(AutoModelForImageTextToText, args.model)
    model.to(device())
    answers = AnswerScorer(model, processor)(image, [(args.prompt, caption) for caption in args.captions])
    means = [answer.log_probs.mean().item() for answer in answers]
    note = (
        f"{model_name(args.model)}: each caption as the answer to {args.prompt!r}, the geometric mean over its tokens"
    )
    values = [(mean, math.exp(mean)) for mean in means]
    return report(args, image, values, ("log-likelihood", "probability"), note)


def report(
    args: ScoreArguments,
    image: Image.Image,
    values: Iterable[tuple[float, float]],
    names: tuple[str, str],
    note: str,
) -> list[CaptionScore]:
    """Print two numbers a caption and draw the second, the best caption first."""
    scores = [CaptionScore(caption, *pair) for caption, pair in zip(args.captions, values, strict=True)]
    scores.sort(key=lambda score: -score.score)
    widths = [max(len(name), 7) for name in names]
    print(note)
    print(f"  {names[0]:>{widths[0]}}  {names[1]:>{widths[1]}}  caption")
    for rank, (caption, score, probability) in enumerate(scores):
        print(f"{' ' if rank else '*'} {score:{widths[0]}.4f}  {probability:{widths[1]}.1%}  {caption}")
    bars = [
        Bar(caption, probability, f"{names[0]} {score:.3f} · {names[1]} {probability:.1%}")
        for caption, score, probability in scores
    ]
    draw_bars(bars, image, Path(args.image).name, note, picture(args))
    return scores


def score_components(args: ScoreArguments, image: Image.Image) -> list[CaptionMatches]:
    """ComAlign's scores, and the region most like each phrase."""
    model, processor = load(AutoModel, args.model)
    with loading(f"{args.model}, backbone {model.config.backbone}"):
        model.backbone  # noqa: B018  (loaded on first use)
    parsed = extract(args.captions)
    if args.components is not None:
        row = read_regions(args.components, args.image, image.size)
    else:
        row = detect_regions(args.image, image, parsed, model.config, detector(args))
    for line in left_out(row, parsed, model.config):
        print(line)
    encoded = encode_components(
        model,
        processor,
        [image],
        args.captions,
        regions=lambda _: (row.entities, row.relations),
        phrases=lambda _: parsed,
        progress=False,
    )
    scores = match_captions(model, encoded.output, parsed, row.entities, row.relations)
    scores.sort(key=lambda score: -score.score)
    for line in lines_of(scores, row):
        print(line)
    how = "mean of its parts"
    if model.config.score == "released":
        how = "weighted as by the released code, dependent on the other captions"
    note = (
        f"{model_name(args.model)}: score, {how}; each phrase with the entity most like it, or the pair (dashed), and "
        "their cosine"
    )
    draw_matches(scores, row, image, Path(args.image).name, note, picture(args))
    return scores


def detector(args: ScoreArguments) -> Finder | None:
    """What finds the regions, if anything does."""
    if args.detector is None:
        print("no regions: without --detector or --components, captions are compared with the whole image alone")
        return None
    with loading(args.detector):
        return Detector(args.detector, args.threshold)


def load(auto_class: type, name: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model in evaluation mode, and its processor."""
    with loading(name):
        model = auto_class.from_pretrained(name, dtype=torch.float32).eval()
        return model, AutoProcessor.from_pretrained(name)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what transformers raises where it finds nothing into an error of one line."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be loaded: {reason}") from error


def model_name(model: str) -> str:
    """A Hub id, or the name of a folder."""
    return Path(model).name if Path(model).is_dir() else model


def picture(args: ScoreArguments) -> Path:
    """Where the picture goes."""
    return Path(args.output_dir) / "score.png"
