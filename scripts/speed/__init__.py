"""Measure speed on this machine: of training, of CAL, of evaluation and of the feature store.

    compalign speed training
    compalign speed evaluation --annotations sugar-crepe/data --images coco/val2017

The first word says what is measured.
"""

import importlib
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import ClassVar

from ...trainers.launch.recipe import parse_recipe
from ..cli import choose


@dataclass
class SpeedArguments:
    """The folder of the figures."""

    GROUP: ClassVar[str] = "output"

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for speed.json. By default the figures are only printed."}
    )


@dataclass
class TrainingSpeedArguments(SpeedArguments):
    """Time training steps of DeGLA, updates of its teacher, and the drawing of scenes.

        compalign speed training --batch 64 --repeats 10 --output_dir benchmarks/training

    Each figure is the best of several repeats. Weights and tokens are random: speed does not depend on them.
    """

    GROUP: ClassVar[str] = "what to do"

    batch: int = field(default=8, metadata={"help": "Rows per step; each has four negatives."})
    repeats: int = field(default=3, metadata={"help": "Repeats per figure; the best counts."})
    tiny: bool = field(default=False, metadata={"help": "Use two narrow layers instead of ViT-B/32."})


@dataclass
class CALSpeedArguments(SpeedArguments):
    """Time steps of CAL with and without the contrast pass, and the memory of its loss.

        compalign speed cal --output_dir benchmarks/cal

    The shapes are those of LLaVA-1.5 and LLaVA-NeXT, with 576 and 2,928 image tokens. The layers are narrower than
    theirs unless --wide asks for the widths of 7B. The three kinds of step take turns in one run.
    """

    GROUP: ClassVar[str] = "what to do"

    batch: int = field(default=2, metadata={"help": "Rows per step."})
    repeats: int = field(default=5, metadata={"help": "Steps of each kind; the median counts."})
    wide: bool = field(default=False, metadata={"help": "Use the widths of 7B in bfloat16, which needs a large GPU."})


@dataclass
class EvaluationSpeedArguments(SpeedArguments):
    """Time the evaluation on SugarCrepe against programs that take item after item.

        compalign speed evaluation --annotations sugar-crepe/data --images coco/val2017
        compalign speed evaluation --model openai/clip-vit-base-patch32 --annotations sugar-crepe/data

    Measured on the same items, model and machine: SugarCrepe's protocol as a plain script; compalign with an empty
    cache, and again with the cache that this has filled; sentence-transformers where it is installed. Without --images,
    pictures of COCO's size are drawn under the names in the annotations. Without --annotations, items are generated.

    Where other programs keep the machine busy, trust the ratios of processor time rather than of wall time. They need
    one thread (OMP_NUM_THREADS=1) and no workers.
    """

    GROUP: ClassVar[str] = "what to do"

    model: str | None = field(
        default=None,
        metadata={"help": "Hub id or folder of a CLIP-like model. By default the small one of generated scenes."},
    )
    annotations: str | None = field(
        default=None, metadata={"help": "Folder of SugarCrepe's seven files. By default items are generated."}
    )
    images: str | None = field(
        default=None, metadata={"help": "Folder of COCO val2017. By default pictures are drawn."}
    )
    images_used: int | None = field(
        default=None, metadata={"help": "Number of images to use, with all their items. By default all."}
    )
    items_of_others: int = field(default=500, metadata={"help": "Items that the other programs score, evenly spaced."})
    batch_size: int = field(default=256, metadata={"help": "Images, and texts, per forward pass of every program."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode images for compalign."})


@dataclass
class StoreSpeedArguments(SpeedArguments):
    """Time the reading of features from a store, against reading the same files from end to end.

        compalign speed store --vectors 200000 --output_dir benchmarks/store

    The files have been read before, so both come from the system's memory: the overhead is measured, not the disk.
    """

    GROUP: ClassVar[str] = "what to do"

    vectors: int = field(default=100_000, metadata={"help": "Features in the store."})
    width: int = field(default=512, metadata={"help": "Numbers per feature."})
    batch: int = field(default=4096, metadata={"help": "Features per read."})
    repeats: int = field(default=5, metadata={"help": "Repeats per figure; the best counts."})


# By the word that asks for it; the module of that name measures.
MEASUREMENTS: dict[str, type[SpeedArguments]] = {
    "training": TrainingSpeedArguments,
    "cal": CALSpeedArguments,
    "evaluation": EvaluationSpeedArguments,
    "store": StoreSpeedArguments,
}


def main(arguments: list[str] | None = None) -> dict[str, float] | None:
    """Measure, print, write; return the figures by name."""
    sentences = {word: cleandoc(kind.__doc__ or "").splitlines()[0] for word, kind in MEASUREMENTS.items()}
    word, rest = choose("compalign speed", "measurement", sentences, cleandoc(__doc__ or ""), arguments)
    kind = MEASUREMENTS[word]
    (args,) = parse_recipe(
        kind, arguments=rest, description=cleandoc(kind.__doc__ or ""), command=f"compalign speed {word}"
    )
    return importlib.import_module(f".{word}", __name__).run(args)
