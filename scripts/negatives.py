"""Propose hard negative captions by rule, for a caption file in any format that compalign reads.

compalign negatives --captions captions_train2014.json --images train2014 --output negatives.jsonl
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import NegativeGenerator, load_captions
from ..data.negatives import SpacyTagger, coverage, prepare
from ..trainers.recipe import parse_recipe


@dataclass
class NegativesArguments:
    """What to read, what to propose, where to write."""

    captions: str = field(metadata={"help": "Captions: a file, a folder or a Hub id, in any format of load_captions."})
    output: str = field(metadata={"help": "A .jsonl file, or a folder for a data set with its images."})
    images: str | None = field(default=None, metadata={"help": "Folder of the images; default: beside the captions."})
    only: str | None = field(default=None, metadata={"help": "Text file of the image names to keep."})
    num_negatives: int = field(default=4, metadata={"help": "Most negatives a caption."})
    typed: bool = field(default=False, metadata={"help": "CE-CLIP's columns: relation, adjective, noun, verb."})
    spacy_pipeline: str | None = field(default=None, metadata={"help": "Tag with this spaCy pipeline instead."})
    seed: int = field(default=0, metadata={"help": "Chooses among the candidates."})
    on_bad_row: str = field(default="skip", metadata={"help": "skip bad rows and count them, or raise at the first."})


def main(arguments: list[str] | None = None) -> None:
    """Read, propose, write, and print what was covered."""
    (args,) = parse_recipe(NegativesArguments, arguments=arguments, description=__doc__)
    tagger = SpacyTagger(args.spacy_pipeline) if args.spacy_pipeline else None
    generator = NegativeGenerator(num_negatives=args.num_negatives, seed=args.seed, tagger=tagger)
    propose = generator.propose_typed if args.typed else generator.propose
    proposals = []

    def propose_and_keep(captions: list[str]) -> list[list]:
        proposals.extend(found := propose(captions))
        return found

    rows = load_captions(args.captions, args.images, only=args.only, on_bad_row=args.on_bad_row)
    write(prepare(rows, propose_and_keep), Path(args.output))
    print(json.dumps(coverage(proposals), indent=1))


def write(rows: Any, output: Path) -> None:
    """Write one JSON object a row, with image names relative to the file; or the whole data set into a folder."""
    if output.suffix != ".jsonl":
        rows.save_to_disk(output)
        return
    from datasets import Image

    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8") as file:
        for row in rows.cast_column("image", Image(decode=False)):
            path = row["image"]["path"]
            if path is None:
                raise ValueError(f"the images are stored inside {output.name}'s source: name a folder as --output")
            row["image"] = os.path.relpath(path, output.parent)
            file.write(json.dumps(row) + "\n")
