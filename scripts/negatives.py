"""Propose hard negative captions by rule, for a caption file in any format that compalign reads.

    compalign negatives --captions captions_train2014.json --images train2014 --output negatives.jsonl

Prints how many captions got a negative, by kind.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..trainers.launch.recipe import parse_recipe


@dataclass
class NegativesArguments:
    """Captions to read, negatives to propose, the output."""

    captions: str = field(
        metadata={"help": "Captions: a file, a folder or a Hub id, in any format of load_captions.", "group": "data"}
    )
    output: str = field(
        metadata={"help": "A .jsonl file, or a folder for a dataset with its images.", "group": "output"}
    )
    images: str | None = field(
        default=None, metadata={"help": "Folder of the images; default: beside the captions.", "group": "data"}
    )
    only: str | None = field(
        default=None, metadata={"help": "Text file with the names of the images to keep.", "group": "data"}
    )
    on_bad_row: Literal["skip", "raise"] = field(
        default="skip", metadata={"help": "Skip bad rows, named and counted, or stop at the first.", "group": "data"}
    )
    num_negatives: int = field(default=4, metadata={"help": "Largest number of negatives per caption."})
    typed: bool = field(default=False, metadata={"help": "CE-CLIP's four columns: relation, adjective, noun, verb."})
    spacy_pipeline: str | None = field(
        default=None, metadata={"help": "spaCy pipeline that tags the captions; default: textblob's lexicon."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the choice among the candidates."})


def main(arguments: list[str] | None = None) -> None:
    """Read, propose, write, and print the coverage."""
    (args,) = parse_recipe(NegativesArguments, arguments=arguments, description=__doc__, command="compalign negatives")
    from ..data import NegativeGenerator, load_captions
    from ..data.negatives import SpacyTagger, coverage, prepare

    tagger = SpacyTagger(args.spacy_pipeline) if args.spacy_pipeline else None
    generator = NegativeGenerator(num_negatives=args.num_negatives, seed=args.seed, tagger=tagger)
    propose = generator.propose_typed if args.typed else generator.propose
    proposals = []

    def propose_and_keep(captions: list[str]) -> list[list]:
        proposals.extend(found := propose(captions))
        return found

    rows = load_captions(args.captions, args.images, only=args.only, on_bad_row=args.on_bad_row)
    write(prepare(rows, propose_and_keep), Path(args.output), args.captions)
    print(json.dumps(coverage(proposals), indent=1))


def write(rows: Any, output: Path, source: str) -> None:
    """Write one JSON object per row, with image names relative to the file; or the whole dataset into a folder."""
    if output.suffix != ".jsonl":
        rows.save_to_disk(output)
        return
    from datasets import Image

    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") as file:
        for row in rows.cast_column("image", Image(decode=False)):
            path = row["image"]["path"]
            if path is None:
                raise ValueError(f"images are stored inside {source}: give a folder as --output, not a .jsonl file")
            row["image"] = os.path.relpath(path, output.parent)
            file.write(json.dumps(row) + "\n")
