"""Find the entities and relations of images and captions, for ComAlign.

    compalign components --captions captions_val2017.json --images val2017 \\
        --detector facebook/detr-resnet-50 --output_dir components
    compalign components --captions captions_val2017.json --images val2017 \\
        --instances instances_val2017.json --output_dir components
    compalign components --scenes 1000 --output_dir components

Writes components.jsonl, one line per image, and components.json with the settings, versions and counts. A rerun
continues where the last one stopped. `--show 1` draws the first row.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..trainers.launch.recipe import parse_recipe

if TYPE_CHECKING:
    from ..data.components import ImageComponents
    from ..data.components.detection import Finder


@dataclass
class ComponentsArguments:
    """Captions and images to read, the source of the boxes, the output folder."""

    GROUP: ClassVar[str] = "data"

    output_dir: str = field(metadata={"help": "Folder of components.jsonl and components.json.", "group": "output"})
    captions: str | None = field(default=None, metadata={"help": "Captions, in any format of load_captions."})
    images: str | None = field(default=None, metadata={"help": "Folder of the images; default: beside the captions."})
    only: str | None = field(default=None, metadata={"help": "Text file with the names of the images to keep."})
    on_bad_row: Literal["skip", "raise"] = field(
        default="skip", metadata={"help": "Skip bad rows, named and counted, or stop at the first."}
    )
    scenes: int = field(default=0, metadata={"help": "Number of generated scenes to write instead."})
    split: str = field(default="train", metadata={"help": "Scenes: train, validation or test."})
    image_size: int = field(default=64, metadata={"help": "Scenes: side of an image in pixels."})
    seed: int = field(default=0, metadata={"help": "Scenes: different seeds share no scene."})
    detector: str | None = field(
        default=None, metadata={"help": "Object detector, a Hub id or a folder; may be zero-shot.", "group": "model"}
    )
    instances: str | None = field(
        default=None, metadata={"help": "COCO instances to take the boxes from instead.", "group": "model"}
    )
    threshold: float | None = field(
        default=None,
        metadata={"help": "Smallest score of a box, 0 to 1; default: 0.5, zero-shot 0.1.", "group": "model"},
    )
    most_overlap: float = field(
        default=0.7,
        metadata={
            "help": "Zero-shot: of boxes with a larger intersection over union, only the best is kept.",
            "group": "model",
        },
    )
    spacy_pipeline: str | None = field(
        default=None,
        metadata={"help": "spaCy pipeline that parses the captions; default: compalign's rules.", "group": "model"},
    )
    most_entities: int = field(
        default=10, metadata={"help": "Largest number of entity boxes per image.", "group": "what to do"}
    )
    most_relations: int = field(
        default=10, metadata={"help": "Largest number of relation boxes per image.", "group": "what to do"}
    )
    show: int | None = field(
        default=None, metadata={"help": "Row to draw into the folder, counted from 1.", "group": "what to do"}
    )


def main(arguments: list[str] | None = None) -> dict[str, Any] | None:
    """Write the components, print the counts, draw a row."""
    (args,) = parse_recipe(
        ComponentsArguments, arguments=arguments, description=__doc__, command="compalign components"
    )
    if min(args.scenes, args.most_entities, args.most_relations) < 0:
        given = f"scenes={args.scenes}, most_entities={args.most_entities}, most_relations={args.most_relations}"
        raise ValueError(f"{given}; each must be at least 0")
    counts = None
    if args.scenes:
        if args.captions or args.detector or args.instances:
            raise ValueError("scenes bring their own captions and boxes: leave out --captions, --detector, --instances")
        counts = write_scenes(args)
    elif args.captions is not None:
        counts = write_photographs(args)
    elif args.show is None:
        raise ValueError("nothing to do: give --captions, --scenes or --show")
    if counts is not None:
        print(json.dumps(counts, indent=1))
    if args.show is not None:
        show(args)
    return counts


def write_photographs(args: ComponentsArguments) -> dict[str, Any]:
    """Find boxes in the images of a caption file, and phrases in its captions."""
    from ..data.components import ChunkParser, SpacyParser
    from ..data.components.files import describe, write_components
    from ..data.images import UnreadableImage, open_image
    from ..data.readers.bad_rows import RowProblem

    finder = box_finder(args)
    parser = SpacyParser(args.spacy_pipeline) if args.spacy_pipeline else ChunkParser()
    folder = image_folder(args)
    captions = captions_by_image(args, folder)

    def describe_image(name: str, texts: Sequence[str]) -> "ImageComponents":
        parsed = [parser(text) for text in texts]
        try:
            image = open_image(name, folder)
        except UnreadableImage as error:
            raise RowProblem("unreadable image", str(error)) from error
        phrases = list(dict.fromkeys(phrase for caption in parsed for phrase in caption.entities))
        found = finder(name, image, phrases)
        return describe(name, image.size, found, parsed, args.most_entities, args.most_relations)

    settings = {"text": parser.settings, "image": finder.settings, **limits(args)}
    return write_components(captions, describe_image, args.output_dir, settings, args.on_bad_row)


def box_finder(args: ComponentsArguments) -> "Finder":
    """Open the detector or the annotations that the boxes come from."""
    from ..data.components.detection import CocoInstances, Detector

    if (args.detector is None) == (args.instances is None):
        raise ValueError("boxes come from --detector or from --instances: give one of them")
    if args.instances is not None:
        return CocoInstances(args.instances)
    return Detector(args.detector, args.threshold, args.most_overlap)


def image_folder(args: ComponentsArguments) -> Path:
    """The folder that image names start from."""
    if args.images is not None:
        return Path(args.images)
    captions = Path(args.captions)
    return captions if captions.is_dir() else captions.parent


def captions_by_image(args: ComponentsArguments, folder: Path) -> dict[str, list[str]]:
    """Read the captions of each image, by its name inside the folder."""
    from datasets import Image

    from ..data import load_captions

    rows = load_captions(args.captions, args.images, only=args.only, on_bad_row=args.on_bad_row)
    rows = rows.select_columns(["image", "caption"]).cast_column("image", Image(decode=False))
    captions: dict[str, list[str]] = {}
    root = os.path.realpath(folder)
    for row in rows:
        if row["image"]["bytes"] is not None:
            raise ValueError(f"the images of {args.captions} are stored inside it: save them as files first")
        captions.setdefault(os.path.relpath(row["image"]["path"], root), []).append(row["caption"])
    return captions


def write_scenes(args: ComponentsArguments) -> dict[str, Any]:
    """Write generated scenes, with their images beside the components."""
    from ..data.components.files import describe, write_components
    from ..data.scenes.components import SceneComponentDataset

    scenes = SceneComponentDataset(args.scenes, args.split, args.image_size, args.seed)
    folder = Path(args.output_dir) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {f"images/{args.split}_{args.seed}_{index:06d}.png": index for index in range(args.scenes)}

    def describe_image(name: str, texts: Sequence[str]) -> "ImageComponents":
        row = scenes[numbers[name]]
        row["image"].save(Path(args.output_dir) / name)
        entities, captions = row["entities"], row["captions"]
        return describe(name, row["image"].size, entities, captions, args.most_entities, args.most_relations)

    captions = {name: [scenes[index]["captions"][0].text] for name, index in numbers.items()}
    drawn = {"kind": "scenes", "split": args.split, "image_size": args.image_size, "seed": args.seed}
    settings = {"text": {"kind": "scenes"}, "image": drawn, **limits(args)}
    return write_components(captions, describe_image, args.output_dir, settings, args.on_bad_row)


def limits(args: ComponentsArguments) -> dict[str, int]:
    """The largest numbers of boxes, as settings of the file."""
    return {"most_entities": args.most_entities, "most_relations": args.most_relations}


def show(args: ComponentsArguments) -> None:
    """Draw one row, and print the path of the picture."""
    from ..data.components.files import read_row
    from ..data.components.picture import draw
    from ..data.images import open_image, resolve_inside

    row = read_row(args.output_dir, args.show)
    beside = args.images is None and args.captions is None
    path = resolve_inside(args.output_dir if beside else image_folder(args), row.image)
    picture = Path(args.output_dir) / f"row_{args.show}.png"
    draw(row, open_image(path), picture)
    print(f"wrote {picture}")
