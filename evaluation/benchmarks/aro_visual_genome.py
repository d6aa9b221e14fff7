"""ARO on Visual Genome: who does what to whom, and which attribute belongs to which object, inside a box."""

import ast
import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

from ...data.images import ImageCrop
from .choice import CaptionChoice, ChoiceItem
from .coverage import find_images
from .records import check_sizes, read_records

EXCLUDED_RELATIONS = 157  # symmetric or rare ones, listed in the authors' notebook only
LEAST_PAIR = 25  # fewest items of an attribute pair that the published mean includes
FIELDS = {
    "image_path": str,
    "bbox_x": Real,
    "bbox_y": Real,
    "bbox_w": Real,
    "bbox_h": Real,
    "true_caption": str,
    "false_caption": str,
}


class AroVisualGenome(CaptionChoice):
    """The common part of the two ARO tasks on Visual Genome: images are cropped to their boxes first.

    Some ports ignore the boxes. Their scores differ by several points and must not be compared with these.

    Args:
        annotations (`str` or `Path`): Folder of the task's JSON file. If the file has fewer items than the official
            number, a note calls it a subset.
        images (`str` or `Path`): Folder of the images.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.
        notes (sequence of `str`): Notes for readers of the scores.

    Raises:
        ValueError: If there are more items than the official number, a file name leads outside the image folder, or too
            many images are missing.

    Reference:
        https://huggingface.co/papers/2210.01936
    """

    file: ClassVar[str]
    size: ClassVar[int]
    group_field: ClassVar[dict[str, type]]

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ):
        path = Path(annotations) / self.file
        records = read_records(path, FIELDS | self.group_field)
        notes = [*check_sizes({self.file: records}, {self.file: self.size}, path.parent), *notes]
        found = find_images([(images, record["image_path"]) for record in records.values()], minimum_coverage)
        items = [
            ChoiceItem(
                key=key,
                kind=self.group(record),
                image=ImageCrop(image, _box(record)),
                captions=(record["true_caption"], record["false_caption"]),
                cluster=record["image_path"],
            )
            for (key, record), image in zip(records.items(), found.paths, strict=True)
            if image is not None
        ]
        counts = Counter(item.kind for item in items)
        self.families = self.averages(counts)  # type: ignore[misc]  # known only from the file
        super().__init__(items, training_captions, found, notes)

    @abstractmethod
    def group(self, record: dict[str, Any]) -> str:
        """Name the group that an item is first averaged with."""

    @abstractmethod
    def averages(self, counts: Counter[str]) -> dict[str, list[str]]:
        """Return the groups of each average, given the number of items per group."""


class AroRelation(AroVisualGenome):
    """ARO VG-Relation, read from the official file.

    Schema: `visual_genome_relation.json`, a list of `{"image_path": "100.jpg", "bbox_x": 10, "bbox_y": 5, "bbox_w":
    200, "bbox_h": 180, "true_caption": "the child is feeding the goat", "false_caption": "the goat is feeding the
    child", "relation_name": "feeding"}`, in pixels.

    The published number is `filtered_macro`, the mean over relations without 157 symmetric or rare ones. These are
    listed only in the authors' notebook, which is read for them. Without it there are only `all_macro` and `all_micro`,
    over every relation, and a note says so.

    Source: https://github.com/mertyg/vision-language-models-are-bows, which names the downloads. Licence: MIT (code);
    annotations of Visual Genome, CC BY 4.0; images under their Flickr terms.

    Args:
        annotations, images, minimum_coverage, training_captions: As for `AroVisualGenome`.
        notebook (`str` or `Path`, *optional*): `Replicate ARO! VG-Relation, VG-Attribution.ipynb` of that repository.

    Raises:
        ValueError: As `AroVisualGenome`; if the notebook does not list 157 relations.
    """

    name = "aro_relation"
    suite = "ARO"
    columns: ClassVar[dict[str, str]] = {"filtered_macro": "VG-R", "all_macro": "VG-R all"}
    file = "visual_genome_relation.json"
    size = 23_937
    group_field: ClassVar[dict[str, type]] = {"relation_name": str}

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
        notebook: str | Path | None = None,
    ):
        self.excluded = None if notebook is None else excluded_relations(notebook)
        unfiltered = "averages are over all relations, unlike the published filtered_macro, which needs the notebook"
        notes = [unfiltered] if self.excluded is None else []
        super().__init__(annotations, images, minimum_coverage, training_captions, notes)

    def group(self, record: dict[str, Any]) -> str:
        """Return the relation."""
        return record["relation_name"]

    def averages(self, counts: Counter[str]) -> dict[str, list[str]]:
        """Average over all relations, and over those that the authors keep."""
        everything = {"all": sorted(counts)}
        if self.excluded is None:
            return everything
        return {"filtered": sorted(set(counts) - self.excluded)} | everything


class AroAttribution(AroVisualGenome):
    """ARO VG-Attribution, read from the official file.

    Schema: `visual_genome_attribution.json`, a list as for `AroRelation`, with `"attributes": ["striped", "wooden"]`
    instead of the relation. The published number is `frequent_macro`, the mean over attribute pairs with at least 25
    items; `all_macro` and `all_micro` are over every pair.

    Source and licence: those of `AroRelation`. Arguments: those of `AroVisualGenome`.
    """

    name = "aro_attribution"
    suite = "ARO"
    columns: ClassVar[dict[str, str]] = {"frequent_macro": "VG-A"}
    file = "visual_genome_attribution.json"
    size = 28_748
    group_field: ClassVar[dict[str, type]] = {"attributes": list}

    def group(self, record: dict[str, Any]) -> str:
        """Return the pair of attributes, in their order."""
        return "_".join(map(str, record["attributes"]))

    def averages(self, counts: Counter[str]) -> dict[str, list[str]]:
        """Average over all pairs, and over the frequent ones."""
        return {"frequent": [pair for pair in sorted(counts) if counts[pair] >= LEAST_PAIR], "all": sorted(counts)}


def excluded_relations(notebook: str | Path) -> set[str]:
    """Read the relations that the published VG-Relation mean leaves out.

    Args:
        notebook (`str` or `Path`): The authors' notebook, which assigns the relations to `symmetric`.

    Returns:
        `set[str]`: 157 relations.

    Raises:
        ValueError: If the notebook lists another number of relations.
    """
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assigned = re.search(r"^symmetric = (\[.*?\])", code, re.MULTILINE | re.DOTALL)
    relations = set(ast.literal_eval(assigned[1])) if assigned else set()
    if len(relations) != EXCLUDED_RELATIONS:
        raise ValueError(f"{notebook}: {len(relations)} relations in `symmetric`; there must be {EXCLUDED_RELATIONS}")
    return relations


def _box(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return the box of an item: left, top, right, bottom."""
    left, top = record["bbox_x"], record["bbox_y"]
    return left, top, left + record["bbox_w"], top + record["bbox_h"]
