"""Items of the gallery as a reader sees them, and how an item changed from one model to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["right", "wrong", "tie"]
# Beside the first model, or of a model that stands alone.
CHANGES = ("fixed", "broken", "both right", "still wrong")
VERDICTS: tuple[Verdict, ...] = ("right", "wrong", "tie")


@dataclass(frozen=True)
class Answer:
    """What one model makes of one option.

    Args:
        score (`float`, *optional*): Its score of the option; `None` where the model only chose.
        mark (`Verdict`, *optional*): "right" or "wrong" where the model chose this option, "tie" where the option
            shares the best score with another one, `None` where it was not chosen.
    """

    score: float | None
    mark: Verdict | None = None


@dataclass(frozen=True)
class Option:
    """A text or an image that models choose or reject.

    Args:
        text (`str`): The text; empty for an image.
        true (`bool`): Whether it is a right answer.
        answers (sequence of `Answer` or `None`): One per model; `None` where the model says nothing of this option.
        image (path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`, *optional*): The image, where images are chosen.
    """

    text: str
    true: bool
    answers: Sequence[Answer | None]
    image: Any = None


@dataclass(frozen=True)
class Panel:
    """One choice between options, about one image unless the options are images.

    Args:
        options (sequence of `Option`): True ones first.
        image (path, bytes, `dict`, `PIL.Image.Image` or `ImageCrop`, *optional*): The image.
    """

    options: Sequence[Option]
    image: Any = None


@dataclass(frozen=True)
class GalleryItem:
    """An item with the answers of every model.

    Args:
        kind (`str`): Kind of the item; empty where the benchmark has no kinds.
        name (`str`): Name of the item in the rows, or its number.
        question (`str`): Text that stands above the choices; may be empty.
        panels (sequence of `Panel`): The choices: one per image that captions are compared for.
        verdicts (sequence of `Verdict`): One per model.
        details (sequence of `str`): Per model, a remark on its verdict; may be empty.
    """

    kind: str
    name: str
    question: str
    panels: Sequence[Panel]
    verdicts: Sequence[Verdict]
    details: Sequence[str]


def verdict(right: float, wrong: float) -> Verdict:
    """Judge a choice by the score of the right option and the best score of the wrong ones.

    Args:
        right (`float`): Score of the right option.
        wrong (`float`): Best score of the wrong options.

    Returns:
        `str`: "right", "wrong", or "tie" if the two are equal.
    """
    if right == wrong:
        return "tie"
    return "right" if right > wrong else "wrong"


def change(first: Verdict, other: Verdict) -> str:
    """Name what became of an item from the first model to another one. A tie is a miss, as in all scores.

    Args:
        first (`Verdict`): Verdict of the first model.
        other (`Verdict`): Verdict of the other model.

    Returns:
        `str`: one of `CHANGES`.
    """
    if other == "right":
        return "both right" if first == "right" else "fixed"
    return "broken" if first == "right" else "still wrong"


def outcomes(verdicts: Sequence[Verdict]) -> list[str]:
    """Name the outcomes of an item.

    Args:
        verdicts (sequence of `Verdict`): One per model, that of the first model first.

    Returns:
        `list[str]`: for one model its verdict; otherwise one of `CHANGES` for each model after the first.
    """
    first, *others = verdicts
    return [change(first, other) for other in others] if others else [first]
