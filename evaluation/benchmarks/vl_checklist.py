"""VL-CheckList: objects, attributes and relations, in many files."""

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .choice import CaptionChoice, ChoiceItem
from .coverage import find_images
from .records import check_sizes

LEAVES = {
    "object": ("location", "size"),
    "attribute": ("action", "color", "material", "size", "state"),
    "relation": ("action", "spatial"),
}
# Official sizes, as far as they are known; these files are among the largest.
SIZES = {
    "Attribute/vaw/size": 15_321,
    "Attribute/vg/color": 11_569,
    "Relation/vg/spatial": 30_650,
    "Relation/swig_action": 25_150,
}
IMAGE_FOLDERS = {"vg": "vg", "vaw": "vg", "swig": "swig", "hake": "hake"}  # VAW describes images of Visual Genome


class VLCheckList(CaptionChoice):
    """VL-CheckList, read from the official files.

    Schema: JSON files below `Object/{Location,Size}`, `Attribute/{vg,vaw}` and `Relation`, each a list of
    `["VG_100K/1.jpg", {"POS": ["red cup"], "NEG": ["green cup"]}]`; the first text of each side is used. Averages are
    nested: files within a dataset (Visual Genome, VAW, SWiG, HAKE), datasets within a leaf, leaves within their group
    (`object_macro`, `attribute_macro`, `relation_macro`). `all_macro`, the published overall score, is the mean of the
    nine leaves.

    Items with two equal texts are always a tie, and some items occur twice; notes count both.

    Source: https://github.com/om-ai-lab/VL-CheckList, folder `data`. Licence: free for non-commercial use, as its setup
    file says. One source of HAKE's images is offline, so `minimum_coverage` may have to be lower than 1.

    Args:
        annotations (`str` or `Path`): Folder of `Object`, `Attribute` and `Relation`. If one of the files of known size
            has this size, all must; if all are smaller, a note calls them a subset.
        images (`str` or `Path`): Folder with the folders, or links to folders, `vg`, `swig` and `hake`.
        limit (`int`, *optional*): Number of items per file, the first ones; `None` for all. The released runner uses
            1000, and so do published scores. The runner counts only items whose image is found; here all count.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a file does not follow the schema, is in an unexpected place or has an unexpected size, a file
            name leads outside its folder, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2207.00221
    """

    name = "vl_checklist"
    suite = "VL-CheckList"
    columns: ClassVar[dict[str, str]] = {
        **{f"{group}_macro": group for group in LEAVES},
        "all_macro": "mean of leaves",
    }

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        limit: int | None = 1000,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        if limit is not None and limit < 1:
            raise ValueError(f"limit {limit}; must be at least 1, or None for all items")
        root = Path(annotations)
        paths = sorted(path for group in LEAVES for path in (root / group.capitalize()).rglob("*.json"))
        listed = {path.relative_to(root).with_suffix("").as_posix(): _read(path) for path in paths}
        notes = check_sizes({name: listed.get(name, []) for name in SIZES}, SIZES, annotations)
        if limit is not None:
            notes.append(f"the first {limit} items of each file, as released")
        records = [(name, key, *item) for name, file in listed.items() for key, item in enumerate(file[:limit])]
        folders = {name: Path(images) / IMAGE_FOLDERS[_place(name)[2]] for name in listed}
        found = find_images([(folders[name], image) for name, _, image, _ in records], minimum_coverage)
        items = [
            ChoiceItem(str(key), name, path, captions, cluster=f"{folders[name].name}/{image}")
            for (name, key, image, captions), path in zip(records, found.paths, strict=True)
            if path is not None
        ]
        families = _families(list(listed))
        self.families = families  # type: ignore[misc]  # known only from the folder
        if empty := [leaf for leaf, datasets in families["all"].items() if not datasets]:
            notes.append(f"averages leave out leaves without files: {', '.join(empty)}")
        super().__init__(items, training_captions, found, notes + _flaws(items))


def _read(path: Path) -> list[tuple[str, tuple[str, str]]]:
    """Read the images of a file with their true and false texts."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    items = []
    for position, item in enumerate(content):
        match item:
            case [str(image), {"POS": [str(true), *_], "NEG": [str(false), *_]}]:
                items.append((image, (true, false)))
            case _:
                needed = '["image.jpg", {"POS": ["true"], "NEG": ["false"]}]'
                raise ValueError(f"{path}, item {position}: {reprlib.repr(item)}; needs {needed}")
    return items


def _place(name: str) -> tuple[str, str, str]:
    """Return the group, leaf and dataset of a file, such as "Attribute/vaw/size" or "Relation/swig_action"."""
    group, *parts = name.lower().split("/")
    words = {word for part in parts for word in part.split("_")}
    leaves, datasets = words & set(LEAVES[group]), words & set(IMAGE_FOLDERS)
    if len(leaves) != 1 or len(datasets) != 1:
        raise ValueError(
            f"{name}.json: the path names the leaves {sorted(leaves)} and the datasets {sorted(datasets)}; must be one "
            f"of {', '.join(LEAVES[group])} and one of {', '.join(IMAGE_FOLDERS)}"
        )
    return group, leaves.pop(), datasets.pop()


def _families(names: Sequence[str]) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Arrange files as trees of leaves and datasets: one tree per group, and one of all leaves."""
    groups: dict[str, dict] = {group: {leaf: {} for leaf in leaves} for group, leaves in LEAVES.items()}
    for name in names:
        group, leaf, dataset = _place(name)
        groups[group][leaf].setdefault(dataset, []).append(name)
    leaves = {f"{group} {leaf}": datasets for group, tree in groups.items() for leaf, datasets in tree.items()}
    return groups | {"all": leaves}


def _flaws(items: Sequence[ChoiceItem]) -> list[str]:
    """Count the flaws of the released items."""
    same = sum(item.captions[0] == item.captions[1] for item in items)
    repeated = len(items) - len({(item.kind, item.image, item.captions) for item in items})
    counts = {"items have two equal texts: always a tie": same, "items repeat another item of their file": repeated}
    return [f"{count} {flaw}" for flaw, count in counts.items() if count]
