"""The work of `compalign score`, by the kind of the model."""

from pathlib import Path
from typing import Any

from ...data.images import open_image
from ...evaluation.scorers.matches import CaptionMatches
from ...modeling.kinds import Kind
from .arguments import ScoreArguments
from .captions import CaptionScore, score_answers, score_dual_encoder
from .components import score_comalign
from .kinds import IN_WORDS, check_kind

SCORERS = {
    Kind.DUAL_ENCODER: score_dual_encoder,
    Kind.COMALIGN: score_comalign,
    Kind.IMAGE_TEXT_TO_TEXT: score_answers,
}


def score_image(args: ScoreArguments) -> list[CaptionScore] | list[CaptionMatches]:
    """Score captions of an image, print the scores and draw them.

    Args:
        args (`ScoreArguments`): Names the model, the image and the captions.

    Returns:
        `list[CaptionScore]`, or `list[CaptionMatches]` for ComAlign: the best caption first.

    Raises:
        ValueError: If the image or the model cannot be used, or regions are given to a model that has no use for them.
    """
    image = open_image(args.image)
    kind = check_kind(args.model, *SCORERS)
    if (args.detector or args.components) and kind is not Kind.COMALIGN:
        raise ValueError(f"--detector and --components are for ComAlign; {args.model} is {IN_WORDS[kind]}")
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    path = Path(args.output_dir) / "score.png"
    scores: Any = SCORERS[kind](args, image, path)
    print(f"wrote {path}")
    return scores
