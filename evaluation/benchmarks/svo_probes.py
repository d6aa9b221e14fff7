"""SVO-Probes: a sentence against two images that differ in its subject, verb or object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...data.readers.sources import find_column, read_source
from ..metrics import as_scores
from ..results import Score
from .base import Benchmark, grouped_file_names
from .choice import score_choices, strictly_correct
from .coverage import find_images

FLAGS = {"subject": "subj_neg", "verb": "verb_neg", "object": "obj_neg"}
COLUMNS = ("sentence", "pos_image_id", "neg_image_id", *FLAGS.values())


class SvoProbes(Benchmark):
    """SVO-Probes, read from the official table.

    Schema: `svo_probes.csv` with the columns `sentence`, `pos_image_id`, `neg_image_id`, `subj_neg`, `verb_neg` and
    `obj_neg` (True or False), among others. As in the authors' notebook, only rows whose images differ in exactly one
    of the three count. The notebook decides by a threshold whether a sentence and an image match. A dual encoder has no
    threshold, so here the sentence must score strictly higher with its own image than with the other. A model that sees
    no image cannot choose between images, so there is no blind baseline.

    Source: https://github.com/google-deepmind/svo_probes; the table lists the addresses of the images, some of which no
    longer exist. Licence: CC BY 4.0 (table).

    Args:
        annotations (`str` or `Path`): The table.
        images (`str` or `Path`): Folder of the images, `<image id>.jpg`.
        minimum_coverage (`float`): Smallest accepted share of listed sentence-image pairs whose image is found, in
            [0, 1].

    Raises:
        ValueError: If a column or a value is missing, too many images are missing, or no row is left.

    Reference:
        https://huggingface.co/papers/2106.09141
    """

    name = "svo_probes"
    suite = "SVO-Probes"
    ability = "composition"
    families: ClassVar[Mapping[str, list[str]]] = {"all": list(FLAGS)}
    columns: ClassVar[dict[str, str]] = {kind: kind for kind in FLAGS} | {"all_micro": "all"}

    def __init__(self, annotations: str | Path, images: str | Path, minimum_coverage: float = 1.0):
        listed = _read_rows(annotations)
        probes = [(kind, record) for kind, record in listed if kind is not None]
        names = [f"{record[side]}.jpg" for _, record in probes for side in ("pos_image_id", "neg_image_id")]
        found = find_images([(images, name) for name in names], minimum_coverage)
        pairs = list(zip(found.paths[::2], found.paths[1::2], strict=True))
        kept = [k for k, pair in enumerate(pairs) if None not in pair]
        if not kept:
            raise ValueError(f"{annotations}: {len(probes)} rows, but no row has both its images in {images}")
        notes = [*found.notes]
        if len(kept) < len(probes):
            notes.append(f"{len(probes) - len(kept)} of {len(probes)} rows left out, since each needs both images")
        if len(probes) < len(listed):
            notes.append(f"{len(listed) - len(probes)} rows whose images differ in several ways do not count")
        self.missing_images = found.missing
        self.kinds = np.array([probes[k][0] for k in kept])
        self.sentences = [probes[k][1]["sentence"] for k in kept]
        super().__init__(
            images=[path for k in kept for path in pairs[k]],
            texts=self.sentences,
            image_groups=np.arange(2 * len(kept)).reshape(-1, 2),
            text_groups=np.arange(len(kept))[:, None],
            n_found=len(kept),
            n_listed=len(probes),
            notes=notes,
        )

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices between images; see `Benchmark.score`."""
        options = as_scores(scores)[:, 0, :]  # (rows, 2), the sentence's own image first
        clusters = np.array(self.sentences)
        metrics = score_choices(options, {}, self.kinds, clusters, self.families, chance=1 / 2)
        rows = [
            {
                "kind": str(kind),
                "images": images,
                "sentence": sentence,
                "scores": row.tolist(),
                "correct": bool(hit),
            }
            for kind, images, sentence, row, hit in zip(
                self.kinds, grouped_file_names(self), self.sentences, options, strictly_correct(options), strict=True
            )
        ]
        return metrics, rows


def _read_rows(path: str | Path) -> list[tuple[str | None, dict[str, Any]]]:
    """Read the rows, each with the one word in which its images differ, or None if they differ in several."""
    source = read_source(path, None, ())
    for column in COLUMNS:
        find_column(source, (column,))
    rows = []
    for number, record in zip(source.numbers, source.records, strict=True):
        flags = {kind: str(record[column]).strip().lower() for kind, column in FLAGS.items()}
        if not record["sentence"] or not set(flags.values()) <= {"true", "false"}:
            raise ValueError(
                f"{path}, row {number}: {record}; needs a sentence, and True or False in {', '.join(FLAGS.values())}"
            )
        differing = [kind for kind, flag in flags.items() if flag == "true"]
        rows.append((differing[0] if len(differing) == 1 else None, record))
    return rows
