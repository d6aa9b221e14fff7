"""What'sUp: positions of objects relative to one another or in the picture."""

import json
import reprlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..metrics import bootstrap_interval
from ..results import Score
from .choice import CaptionChoice, ChoiceItem
from .coverage import find_images
from .records import check_sizes, read_records

CONTROLLED_FILES = {"controlled_a": "controlled_images_dataset.json", "controlled_b": "controlled_clevr_dataset.json"}
CONTROLLED_SIZES = {"controlled_a": 412, "controlled_b": 408}
OPTIONS = 4
# The first match decides, so "on", a common word, comes last. Two relations of an axis are opposites and form a pair.
AXES = {
    "to the left of": "horizontal",
    "to the right of": "horizontal",
    "in front of": "other",
    "behind": "other",
    "under": "other",
    "on": "other",
}
SPATIAL_SIZES = {"coco_one": 2247, "coco_two": 440, "vg_one": 1160, "vg_two": 291}


class WhatsUpControlled(CaptionChoice):
    """What'sUp on controlled photographs: two objects in four arrangements, each with the same four captions.

    Schema: `controlled_images_dataset.json` (A: left, right, on, under) and `controlled_clevr_dataset.json` (B: left,
    right, front, behind), each a list of `{"image_path": "data/controlled_images/mug_on_table.jpeg", "caption_options":
    ["A mug on a table", "A mug under a table", "A mug to the left of a table", "A mug to the right of a table"]}`, the
    true caption first.

    Metrics: accuracy of each subset; `<subset>_pair`, the share of pairs of opposite arrangements that are both right;
    and `<subset>_set`, the share of pairs of objects whose four arrangements are all right. A tie is a miss; the
    released code takes the first of equal scores, which is the true caption's. Pairs and sets with missing images do
    not count.

    Source: https://github.com/amitakamath/whatsup_vlms, which names the downloads. Licence: MIT.

    Args:
        folder (`str` or `Path`): Folder of the two JSON files and of `controlled_images` and `controlled_clevr`.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file is damaged or has an unexpected size, a caption states no known relation, a file name
            leads outside the folder, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2310.19785, section 3.1
    """

    name = "whatsup_controlled"
    suite = "What'sUp"
    families: ClassVar[dict[str, list[str]]] = {"all": list(CONTROLLED_FILES)}
    columns: ClassVar[dict[str, str]] = {
        f"{kind}{unit}": f"{title}{unit.replace('_', ' ')}"
        for kind, title in (("controlled_a", "A"), ("controlled_b", "B"))
        for unit in ("", "_pair", "_set")
    }

    def __init__(
        self,
        folder: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        folder = Path(folder)
        fields = {"image_path": str, "caption_options": list}
        listed = {kind: read_records(folder / file, fields) for kind, file in CONTROLLED_FILES.items()}
        notes = check_sizes(listed, CONTROLLED_SIZES, folder)
        records = [(kind, key, record) for kind, file in listed.items() for key, record in file.items()]
        names = [record["image_path"].removeprefix("data/") for _, _, record in records]
        found = find_images([(folder, name) for name in names], minimum_coverage)
        items = [
            ChoiceItem(key, kind, path, _four(record, folder / CONTROLLED_FILES[kind]), _things(record))
            for (kind, key, record), path in zip(records, found.paths, strict=True)
            if path is not None
        ]
        super().__init__(items, training_captions, found, notes)

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices, pairs and sets; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        units: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for item, row in zip(self.items, rows, strict=True):
            units[f"{item.kind}_pair"][f"{item.cluster}, {_axis(item.captions[0])}"].append(row["correct"])
            units[f"{item.kind}_set"][item.cluster].append(row["correct"])
        for name, groups in units.items():
            size = 2 if name.endswith("_pair") else 4
            right = [all(group) for group in groups.values() if len(group) == size]
            if right:
                metrics[name] = Score(float(np.mean(right)), len(right), bootstrap_interval(right), OPTIONS**-size)
        return metrics, rows


class WhatsUpSpatial(CaptionChoice):
    """What'sUp on photographs of COCO and Visual Genome: the position of one object, or the arrangement of two.

    Schema: `coco_qa_one_obj.json`, `coco_qa_two_obj.json`, `vg_qa_one_obj.json` and `vg_qa_two_obj.json`, each a list
    of `[285, "A photo of a bear on the left", "A photo of a bear on the right"]`: image id, true and false caption.
    The paper calls the subsets on Visual Genome GQA-spatial; its tables average the two subsets of a source.

    Source and licence: those of `WhatsUpControlled`; images under their Flickr terms.

    Args:
        folder (`str` or `Path`): Folder of the four JSON files.
        coco_images (`str` or `Path`, *optional*): Folder of COCO val2017. Default: `val2017` in `folder`.
        vg_images (`str` or `Path`, *optional*): Folder of Visual Genome's images. Default: `vg_images` in `folder`.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file is damaged or has an unexpected size, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2310.19785, section 3.2
    """

    name = "whatsup_spatial"
    suite = "What'sUp"
    families: ClassVar[dict[str, list[str]]] = {
        "coco": ["coco_one", "coco_two"],
        "vg": ["vg_one", "vg_two"],
        "all": list(SPATIAL_SIZES),
    }
    columns: ClassVar[dict[str, str]] = {
        kind: kind.replace("coco", "COCO").replace("vg", "GQA").replace("_", " ") for kind in SPATIAL_SIZES
    }

    def __init__(
        self,
        folder: str | Path,
        coco_images: str | Path | None = None,
        vg_images: str | Path | None = None,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        folder = Path(folder)
        coco, vg = coco_images or folder / "val2017", vg_images or folder / "vg_images"
        listed = {kind: _read_triples(folder / f"{kind.replace('_', '_qa_')}_obj.json") for kind in SPATIAL_SIZES}
        notes = check_sizes(listed, SPATIAL_SIZES, folder)
        rows = [
            (kind, position, *triple) for kind, triples in listed.items() for position, triple in enumerate(triples)
        ]
        places = [(coco, f"{row[2]:012d}.jpg") if row[0].startswith("coco") else (vg, f"{row[2]}.jpg") for row in rows]
        found = find_images(places, minimum_coverage)
        items = [
            ChoiceItem(str(position), kind, path, (caption, false), cluster=path.name)
            for (kind, position, _, caption, false), path in zip(rows, found.paths, strict=True)
            if path is not None
        ]
        super().__init__(items, training_captions, found, notes)


def _four(record: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the captions of a controlled photograph; the first must state a relation."""
    captions = tuple(record["caption_options"])
    if len(captions) != OPTIONS or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"{path}, {record['image_path']}: {reprlib.repr(captions)}; needs {OPTIONS} captions")
    if _axis(captions[0]) is None:
        accepted = ", ".join(AXES)
        raise ValueError(
            f"{path}, {record['image_path']}: {captions[0]!r} states no relation; must be one of {accepted}"
        )
    return captions


def _axis(caption: str) -> str | None:
    """Return the axis of the relation that a caption states."""
    return next((axis for relation, axis in AXES.items() if f" {relation} " in caption), None)


def _things(record: dict[str, Any]) -> str:
    """Name the objects of a photograph: photographs of one set have the same captions, in different orders."""
    return min(record["caption_options"])


def _read_triples(path: Path) -> list[tuple[int, str, str]]:
    """Read a list of image ids, each with a true and a false caption."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [(int(image_id), str(caption), str(false)) for image_id, caption, false in rows]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; needs a list of [image id, true caption, false caption]") from error
