"""The work of `compalign score` for models that give one number per caption."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ...evaluation.scorers.answers import AnswerScorer
from ...evaluation.scorers.dual_encoder import score_captions
from ...modeling.kinds import default_device, load_model, load_processor, name_of
from .arguments import ScoreArguments
from .picture import Bar, draw_bars


class CaptionScore(NamedTuple):
    """A caption with its score.

    Args:
        caption (`str`): The text.
        score (`float`): A dual encoder's cosine in [-1, 1], or the mean log-likelihood of a token, at most 0.
        probability (`float`): The same in [0, 1]: the share among the captions, or the probability of a token.
    """

    caption: str
    score: float
    probability: float


def score_dual_encoder(args: ScoreArguments, image: Image.Image, path: Path) -> list[CaptionScore]:
    """Score by cosine, and by its softmax over the captions at the model's logit scale."""
    model, processor = load_model(args.model, merge_adapter=True).to(default_device()), load_processor(args.model)
    cosines, shares, truncated = score_captions(model, processor, image, args.captions)
    if truncated:
        print(f"captions longer than the model reads, and cut: {truncated}")
    scale = model.logit_scale.exp().item()
    note = f"{name_of(args.model)}: cosine with the image, and share of each caption (softmax at scale {scale:.1f})"
    return _report(args, image, path, zip(cosines, shares, strict=True), ("cosine", "share"), note)


def score_answers(args: ScoreArguments, image: Image.Image, path: Path) -> list[CaptionScore]:
    """Score by the mean log-likelihood of a token of each caption, and by the probability that this amounts to."""
    model, processor = load_model(args.model, merge_adapter=True).to(default_device()), load_processor(args.model)
    answers = AnswerScorer(model, processor)(image, [(args.prompt, caption) for caption in args.captions])
    means = [answer.log_probs.mean().item() for answer in answers]
    note = f"{name_of(args.model)}: each caption as the answer to {args.prompt!r}, the geometric mean over its tokens"
    values = [(mean, math.exp(mean)) for mean in means]
    return _report(args, image, path, values, ("log-likelihood", "probability"), note)


def _report(
    args: ScoreArguments,
    image: Image.Image,
    path: Path,
    values: Iterable[tuple[float, float]],
    names: tuple[str, str],
    note: str,
) -> list[CaptionScore]:
    """Print two numbers per caption and draw the second, the best caption first."""
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
    draw_bars(bars, image, Path(args.image).name, note, path)
    return scores
