"""The flags of `compalign score`; importing them loads nothing heavy."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class ScoreArguments:
    """The image, its captions, and the model that scores them."""

    GROUP: ClassVar[str] = "model"

    model: str = field(
        metadata={
            "help": "Hub id or folder of a dual encoder, ComAlign's heads, an image-text-to-text model, or an adapter "
            "of one of them."
        }
    )
    image: str | None = field(
        default=None, metadata={"help": "Image file; or the first word of the command.", "group": "data"}
    )
    captions: list[str] = field(
        default_factory=list, metadata={"help": "Captions; or the words after the image.", "group": "data"}
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "For ComAlign: Hub id or folder of the detector that finds the regions; it may be zero-shot."
        },
    )
    threshold: float | None = field(
        default=None,
        metadata={"help": "Least score of a box, 0 to 1. By default 0.5, and 0.1 for a zero-shot detector."},
    )
    components: str | None = field(
        default=None,
        metadata={
            "help": "For ComAlign: folder of components.jsonl, which holds the regions of the image.",
            "group": "data",
        },
    )
    prompt: str = field(
        default="Describe the image.",
        metadata={"help": "For an image-text-to-text model: the user's words, which each caption answers."},
    )
    output_dir: str = field(default="score", metadata={"help": "Folder of score.png.", "group": "output"})
