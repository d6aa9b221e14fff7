"""Score captions of an image with any model, and show what the scores rest on.

    compalign score photo.jpg "a red cat above a blue star" "a blue cat above a red star" \
        --model hub_cards/released/scenes_base --output_dir score

The image and the captions come first, then the flags; a recipe may name them instead. A dual encoder gives the cosine
of each caption with the image. ComAlign also gives the region of the image that each phrase is most like; the regions
come from --detector or --components. An image-text-to-text model gives the likelihood of each caption as an answer.
The picture goes into the output folder as score.png.
"""

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe
from .scoring.arguments import ScoreArguments

if TYPE_CHECKING:
    from ..evaluation.scorers.matches import CaptionMatches
    from .scoring.captions import CaptionScore

USAGE = 'compalign score IMAGE "CAPTION" "CAPTION" --model MODEL'


def main(arguments: list[str] | None = None) -> "list[CaptionScore] | list[CaptionMatches]":
    """Score, print and draw, the best caption first."""
    line = with_flags(sys.argv[1:] if arguments is None else arguments)
    (args,) = parse_recipe(ScoreArguments, arguments=line, description=__doc__, command="compalign score")
    check(args)
    from .scoring.image import score_image

    return score_image(args)


def with_flags(line: Sequence[str]) -> list[str]:
    """Write out the flags that the first words stand for: --image, then --captions.

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
    """Refuse a command that lacks something or says it twice."""
    if args.image is None:
        raise ValueError(f"no image: {USAGE}")
    if not args.captions:
        raise ValueError(f"no caption: {USAGE}")
    for caption in args.captions:
        if not caption.strip():
            raise ValueError(f"caption {caption!r} is empty")
        if args.captions.count(caption) > 1:
            raise ValueError(f"caption {caption!r} is given twice")
    if args.detector is not None and args.components is not None:
        raise ValueError("regions come from --detector or from --components: give one of them")
