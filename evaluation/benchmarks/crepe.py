"""CREPE: systematicity and productivity, on regions of Visual Genome."""

import ast
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...data.images import ImageCrop
from ...data.readers.sources import find_column, read_source
from ..results import Score
from .choice import CaptionChoice, ChoiceItem, kind_shares
from .coverage import find_images

TRAINING_SETS = ("cc12m", "yfcc", "laion")
COMPLEXITIES = range(4, 13)  # numbers of atoms in a caption
COLUMNS = ("image_id", "caption", "x", "y", "width", "height")


class Table(NamedTuple):
    """A table of CREPE: its file, its column of negatives, and the kind of its items."""

    file: str
    negatives: str
    kind: str


class Crepe(CaptionChoice):
    """The common part of CREPE's two parts: recall at 1 of a region's caption among its own hard negatives.

    Schema: a table with the columns `image_id`, `caption`, `x`, `y`, `width`, `height` (the region in pixels, to which
    the image is cropped) and one or more columns of negatives, each a list in Python's notation. A tie is a miss. If an
    item has fewer negatives than others, its last one is repeated, which changes no score.

    Args:
        tables (sequence of `Table`): Tables to read.
        folder (`str` or `Path`): Folder of the tables.
        images (`str` or `Path`): Folder of Visual Genome's images, `<image id>.jpg`, directly or in the folders
            `VG_100K` and `VG_100K_2`.
        minimum_coverage (`float`): Smallest accepted share of listed items whose image is found, in [0, 1].
        training_captions (sequence of `str`, *optional*): Captions to fit the blind language models on.

    Raises:
        ValueError: If a column or a value is missing, or too many images are missing.

    Reference:
        https://huggingface.co/papers/2212.07796
    """

    suite = "CREPE"

    def __init__(
        self,
        tables: Sequence[Table],
        folder: str | Path,
        images: str | Path,
        minimum_coverage: float,
        training_captions: Sequence[str] | None,
    ):
        rows = [
            (table.kind, *row) for table in tables for row in _read_table(Path(folder) / table.file, table.negatives)
        ]
        notes = []
        if empty := sum(not negatives for *_, negatives in rows):
            notes.append(f"{empty} captions without a negative do not count")
            rows = [row for row in rows if row[-1]]
        found = find_images([(images, _image_file(Path(images), row[1])) for row in rows], minimum_coverage)
        width = max((len(row[-1]) for row in rows), default=0)
        kept = [
            (k, path, *row) for k, (path, row) in enumerate(zip(found.paths, rows, strict=True)) if path is not None
        ]
        items = [
            ChoiceItem(
                key=str(k),
                kind=kind,
                image=ImageCrop(path, box),
                captions=(caption, *negatives, *negatives[-1:] * (width - len(negatives))),
                cluster=str(image_id),
            )
            for k, path, kind, image_id, box, caption, negatives in kept
        ]
        self.chances = np.array([1 / (1 + len(row[-1])) for row in kept])
        super().__init__(items, training_captions, found, notes)

    def score(self, scores: np.ndarray) -> tuple[dict[str, Score], list[dict[str, Any]]]:
        """Score the choices; see `Benchmark.score`."""
        metrics, rows = super().score(scores)
        chances = {str(kind): float(self.chances[self.kinds == kind].mean()) for kind in np.unique(self.kinds)}
        for family, tree in self.families.items():
            if shares := kind_shares(tree, set(chances)):
                chances[f"{family}_micro"] = float(self.chances[np.isin(self.kinds, list(shares))].mean())
                chances[f"{family}_macro"] = sum(share * chances[kind] for kind, share in shares.items())
        return {name: replace(score, chance=chances[name]) for name, score in metrics.items()}, rows


class CrepeSystematicity(Crepe):
    """Systematicity: compounds that occur in the training set, and compounds that do not.

    Kinds: `seen` and `unseen` compounds, with negatives that exchange an atom (`atom`) or recombine the caption's atoms
    (`comp`). It is meant for models that were trained on one of the three training sets only.

    Source: https://github.com/RAIVNLab/CREPE, folder `crepe/syst_hard_negatives`, with
    `syst_vg_hard_negs_seen_compounds_in_laion.csv` and so on. Licence: not stated; annotations of Visual Genome, CC
    BY 4.0. Schema and reference: see `Crepe`.

    Args:
        folder, images, minimum_coverage, training_captions: As for `Crepe`.
        training_set (`str`): The model's training set, one of `TRAINING_SETS`.

    Raises:
        ValueError: As `Crepe`; if the training set is unknown.
    """

    name = "crepe_systematicity"
    families: ClassVar[Mapping[str, list[str]]] = {
        split: [f"{split}_atom", f"{split}_comp"] for split in ("seen", "unseen")
    }
    columns: ClassVar[dict[str, str]] = {
        f"{split}_{negatives}": f"{split} {negatives}" for split in families for negatives in ("atom", "comp")
    }

    def __init__(
        self,
        folder: str | Path,
        images: str | Path,
        training_set: str = "laion",
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        if training_set not in TRAINING_SETS:
            raise ValueError(f"training_set {training_set!r}; must be one of {', '.join(TRAINING_SETS)}")
        tables = [
            Table(
                file=f"syst_vg_hard_negs_{split}_compounds_in_{training_set}.csv",
                negatives=f"valid_hard_negs_{negatives}",
                kind=f"{split}_{negatives}",
            )
            for split in ("seen", "unseen")
            for negatives in ("atom", "comp")
        ]
        super().__init__(tables, folder, images, minimum_coverage, training_captions)


class CrepeProductivity(Crepe):
    """Productivity: captions of 4 to 12 atoms, each against five negatives.

    Kinds: negatives that exchange an atom (`atom`), swap two atoms (`swap`) or negate the caption (`negate`), by the
    number of atoms, as in `atom_4`. `atom_macro`, `swap_macro` and `negate_macro` are the means over the numbers.

    Source: https://github.com/RAIVNLab/CREPE, folder `crepe/prod_hard_negatives`, with
    `atom/prod_vg_hard_negs_atom_complexity_4.csv` and so on, negatives in `hard_negs`. Licence: as for
    `CrepeSystematicity`. Schema and reference: see `Crepe`.

    Args:
        folder, images, minimum_coverage, training_captions: As for `Crepe`.

    Raises:
        ValueError: As `Crepe`.
    """

    name = "crepe_productivity"
    families: ClassVar[Mapping[str, list[str]]] = {
        negatives: [f"{negatives}_{complexity}" for complexity in COMPLEXITIES]
        for negatives in ("atom", "swap", "negate")
    }
    columns: ClassVar[dict[str, str]] = {f"{negatives}_macro": f"prod. {negatives}" for negatives in families}

    def __init__(
        self,
        folder: str | Path,
        images: str | Path,
        minimum_coverage: float = 1.0,
        training_captions: Sequence[str] | None = None,
    ):
        tables = [
            Table(
                file=f"{negatives}/prod_vg_hard_negs_{negatives}_complexity_{complexity}.csv",
                negatives="hard_negs",
                kind=f"{negatives}_{complexity}",
            )
            for negatives in ("atom", "swap", "negate")
            for complexity in COMPLEXITIES
        ]
        super().__init__(tables, folder, images, minimum_coverage, training_captions)


def _read_table(path: Path, column: str) -> list[tuple[int, tuple[int, int, int, int], str, list[str]]]:
    """Read the image id, box, caption and negatives of each row."""
    source = read_source(path, None, ())
    for name in (*COLUMNS, column):
        find_column(source, (name,))
    rows = []
    for number, record in zip(source.numbers, source.records, strict=True):
        try:
            image_id, left, top, width, height = (int(record[name]) for name in COLUMNS if name != "caption")
            negatives = ast.literal_eval(record[column])
        except (ValueError, TypeError, SyntaxError) as error:
            raise ValueError(f"{path}, row {number}: {reprlib.repr(record)}; {error}") from error
        if not record["caption"] or not isinstance(negatives, list) or not all(isinstance(n, str) for n in negatives):
            raise ValueError(f"{path}, row {number}: {reprlib.repr(record)}; needs a caption and a list of texts")
        rows.append((image_id, (left, top, left + width, top + height), record["caption"], negatives))
    return rows


def _image_file(images: Path, image_id: int) -> str:
    """Name the file of an image of Visual Genome, which is distributed in two parts."""
    names = [f"{part}{image_id}.jpg" for part in ("VG_100K/", "VG_100K_2/", "")]
    return next((name for name in names if (images / name).is_file()), names[-1])
