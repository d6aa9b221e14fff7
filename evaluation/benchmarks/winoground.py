"""Winoground: two images and two captions with the same words, to be matched."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..metrics import bootstrap_interval, winoground_hits
from ..results import Score
from .base import Benchmark, grouped_file_names
from .coverage import find_images
from .records import check_sizes, read_records

SIZE = 400
FILE = "examples.jsonl"
FIELDS = {
    "image_0": str,
    "image_1": str,
    "caption_0": str,
    "caption_1": str,
    "collapsed_tag": str,
}
CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


class Winoground(Benchmark):
    """Winoground, read from the user's own folder: the dataset is gated, for research only, and must not be copied.

    Schema: `examples.jsonl`, one `{"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", "caption_0": "a cup on a
    book", "caption_1": "a book on a cup", "tag": "Object", "secondary_tag": "", "num_main_preds": 1, "collapsed_tag":
    "Object"}` per line, and a folder `images` of PNG files. Metrics, all strict: `text`, `image` and `group` over all
    items, and over the items of each collapsed tag as `text_<tag>` and so on, in lower case. A model that does not look
    at the images scores 0 on all three, so there is no blind baseline. Intervals reach about 4.5 points to either side.

    Source: https://huggingface.co/datasets/facebook/winoground, with access granted to the user. Licence: its own, for
    research only.

    Args:
        folder (`str` or `Path`): Folder of `examples.jsonl` and `images`. If there are fewer than 400 items, a note
            calls them a subset.

    Raises:
        ValueError: If there is no item or there are more than 400, a file name leads outside the folder, or an image is
            missing.

    Reference:
        https://huggingface.co/papers/2204.03162
    """

    name = "winoground"
    suite = "Winoground"
    ability = "composition"
    columns: ClassVar[dict[str, str]] = {"text": "text", "image": "image", "group": "group"}

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        records = read_records(folder / FILE, FIELDS)
        notes = check_sizes({FILE: records}, {FILE: SIZE}, folder)
        names = [_file_name(record[side]) for record in records.values() for side in ("image_0", "image_1")]
        found = find_images([(folder / "images", name) for name in names])
        self.keys = list(records)
        self.tags = np.array([record["collapsed_tag"].lower() for record in records.values()])
        pairs = np.arange(2 * len(records)).reshape(-1, 2)
        super().__init__(
            images=found.paths,
            texts=[record[side] for record in records.values() for side in ("caption_0", "caption_1")],
            image_groups=pairs,
            text_groups=pairs,
            n_found=len(records),
            notes=notes,
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the matching; see `Benchmark.score`."""
        hits = winoground_hits(scores)
        # Equal scores of two captions for an image, and of two images for a caption.
        ties = {"text": (scores[:, 0] == scores[:, 1]).any(axis=1)}
        ties["image"] = (scores[:, :, 0] == scores[:, :, 1]).any(axis=1)
        ties["group"] = ties["text"] | ties["image"]
        pools = {"": np.ones(len(scores), bool)} | {f"_{tag}": self.tags == tag for tag in sorted(set(self.tags))}
        metrics = {
            f"{test}{suffix}": Score(
                value=float(hits[test][items].mean()),
                n=int(items.sum()),
                interval=bootstrap_interval(hits[test][items]),
                chance=CHANCE[test],
                tie_rate=float(ties[test][items].mean()),
            )
            for suffix, items in pools.items()
            for test in CHANCE
        }
        rows = [
            {"item": key, "tag": str(tag), "images": images, "scores": row.tolist()}
            | {test: bool(hits[test][k]) for test in CHANCE}
            for k, (key, tag, images, row) in enumerate(
                zip(self.keys, self.tags, grouped_file_names(self), scores, strict=True)
            )
        ]
        return metrics, rows


def _file_name(image: str) -> str:
    """Complete the name of an image, which has no suffix in the official file."""
    return image if Path(image).suffix else f"{image}.png"
