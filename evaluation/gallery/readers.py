"""Readers of rows: what one row of each kind of benchmark says, and how its item is laid out as choices."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..benchmarks import Benchmark, CaptionChoice, SceneQuestions, SvoProbes, Winoground, ZeroShotClassification
from .items import Answer, GalleryItem, Option, Panel, Verdict, verdict

Row = dict[str, Any]
B = TypeVar("B", bound=Benchmark)


class RowReader(ABC, Generic[B]):
    """Reads the rows of a benchmark.

    Args:
        benchmark (`Benchmark`): The benchmark that the rows come from.
    """

    def __init__(self, benchmark: B):
        self.benchmark = benchmark

    def fits(self, rows: Sequence[Row]) -> bool:
        """Say whether rows are those of the benchmark's items, in their order."""
        return len(rows) == self.benchmark.n_found

    def kind(self, row: Row) -> str:
        """Name the kind of an item."""
        return row.get("kind", "")

    def name(self, place: int, row: Row) -> str:
        """Name an item."""
        return str(row.get("item", place))

    def verdict(self, row: Row) -> Verdict:
        """Judge the answer of a model."""
        return "right" if row["correct"] else "wrong"

    def detail(self, row: Row) -> str:
        """Remark on the verdict."""
        return ""

    def question(self, row: Row) -> str:
        """Return the text that stands above the choices."""
        return ""

    @abstractmethod
    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out an item as choices, with the answers of all models, whose rows are given."""

    def item(self, place: int, rows: Sequence[Row]) -> GalleryItem:
        """Join what the models' rows say of one item.

        Args:
            place (`int`): Position of the item.
            rows (sequence of `dict`): Its row of each model.
        """
        return GalleryItem(
            kind=self.kind(rows[0]),
            name=self.name(place, rows[0]),
            question=self.question(rows[0]),
            panels=self.panels(place, rows),
            verdicts=[self.verdict(row) for row in rows],
            details=[self.detail(row) for row in rows],
        )


class CaptionChoiceReader(RowReader[CaptionChoice]):
    """One image, one or more true captions, and false ones."""

    def fits(self, rows: Sequence[Row]) -> bool:
        """Compare names and captions too."""
        items = self.benchmark.items
        return super().fits(rows) and all(
            (row["kind"], row["item"], tuple(row["captions"])) == (item.kind, item.key, item.captions)
            for row, item in zip(rows, items, strict=True)
        )

    def verdict(self, row: Row) -> Verdict:
        """Judge by the options that the benchmark compares."""
        right, *wrong = self.benchmark.options(np.array([row["scores"]]))[0].tolist()
        return verdict(right, max(wrong))

    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out one choice between captions."""
        item = self.benchmark.items[place]
        scores = [row["scores"] for row in rows]
        return [Panel(choice(item.captions, self.benchmark.true_captions, scores), item.image)]


class WinogroundReader(RowReader[Winoground]):
    """Two images and two captions: a choice between the captions for each image."""

    def kind(self, row: Row) -> str:
        """Name the tag."""
        return row["tag"]

    def verdict(self, row: Row) -> Verdict:
        """Judge the group: all four comparisons right; a tie if none is wrong and some are equal."""
        (own_0, other_0), (other_1, own_1) = row["scores"]  # scores[caption][image]
        return verdict(min(own_0, own_1), max(other_0, other_1))

    def detail(self, row: Row) -> str:
        """Say which of the two tests was passed."""
        return ", ".join(f"{test} {'right' if row[test] else 'not right'}" for test in ("text", "image"))

    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out the choice of each image, its own caption first."""
        pair = slice(2 * place, 2 * place + 2)
        captions = self.benchmark.texts[pair]
        panels = []
        for own, image in enumerate(self.benchmark.images[pair]):
            order = (own, 1 - own)
            scores = [[row["scores"][caption][own] for caption in order] for row in rows]
            panels.append(Panel(choice([str(captions[k]) for k in order], 1, scores), image))
        return panels


class SvoProbesReader(RowReader[SvoProbes]):
    """A sentence and two images, of which it describes the first."""

    def fits(self, rows: Sequence[Row]) -> bool:
        """Compare the sentences too."""
        return super().fits(rows) and [row["sentence"] for row in rows] == self.benchmark.sentences

    def verdict(self, row: Row) -> Verdict:
        """Judge the choice between the images."""
        return verdict(*row["scores"])

    def question(self, row: Row) -> str:
        """Return the sentence."""
        return row["sentence"]

    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out the choice between the images."""
        images = self.benchmark.images[2 * place : 2 * place + 2]
        return [Panel(choice(["", ""], 1, [row["scores"] for row in rows], images))]


class ZeroShotReader(RowReader[ZeroShotClassification]):
    """An image and its class among the classes."""

    def fits(self, rows: Sequence[Row]) -> bool:
        """Compare the labels too."""
        names = self.benchmark.class_names
        return super().fits(rows) and [row["label"] for row in rows] == [names[k] for k in self.benchmark.labels]

    def verdict(self, row: Row) -> Verdict:
        """Judge the chosen class; a tie of the right one with others is a tie."""
        own, best = row["scores"]
        return "right" if row["correct"] else verdict(own, best)

    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out the image's class and each other class that a model chose."""
        label = rows[0]["label"]
        verdicts = [self.verdict(row) for row in rows]
        marks: list[Verdict | None] = [None if found == "wrong" else found for found in verdicts]
        answers = [Answer(row["scores"][0], mark) for row, mark in zip(rows, marks, strict=True)]
        options = [Option(label, True, answers)]
        for name in dict.fromkeys(row["chosen"] for row in rows if row["chosen"] != label):
            chosen = [
                Answer(row["scores"][1], found) if row["chosen"] == name else None
                for row, found in zip(rows, verdicts, strict=True)
            ]
            options.append(Option(name, False, chosen))
        return [Panel(options, self.benchmark.images[place])]


class SceneQuestionsReader(RowReader[SceneQuestions]):
    """A question about an image; the rows say whether a model gave the expected answer, not what it said."""

    def question(self, row: Row) -> str:
        """Return the question."""
        return row["question"]

    def panels(self, place: int, rows: Sequence[Row]) -> list[Panel]:
        """Lay out the expected answer."""
        answers = [Answer(None, self.verdict(row)) for row in rows]
        return [Panel([Option(rows[0]["answer"], True, answers)], self.benchmark.images[rows[0]["scene"]])]


def reader_of(benchmark: Benchmark) -> RowReader | None:
    """Return the reader of a benchmark's rows, or `None` if its items are not single choices, as in retrieval."""
    if isinstance(benchmark, CaptionChoice):
        return CaptionChoiceReader(benchmark)
    if isinstance(benchmark, ZeroShotClassification):
        return ZeroShotReader(benchmark)
    if isinstance(benchmark, Winoground):
        return WinogroundReader(benchmark)
    if isinstance(benchmark, SvoProbes):
        return SvoProbesReader(benchmark)
    return SceneQuestionsReader(benchmark) if isinstance(benchmark, SceneQuestions) else None


def choice(
    texts: Sequence[str], true: int, scores: Sequence[Sequence[float]], images: Sequence[Any] | None = None
) -> list[Option]:
    """Lay out options with the scores and marks of every model.

    Args:
        texts (sequence of `str`): Texts of the options, true ones first.
        true (`int`): Number of true options.
        scores (sequence of sequence of `float`): Per model, the score of each option.
        images (sequence, *optional*): Images of the options, where images are chosen.
    """
    marks = [option_marks(own, true) for own in scores]
    return [
        Option(
            text=text,
            true=k < true,
            answers=[Answer(own[k], own_marks[k]) for own, own_marks in zip(scores, marks, strict=True)],
            image=images[k] if images else None,
        )
        for k, text in enumerate(texts)
    ]


def option_marks(scores: Sequence[float], true: int) -> list[Verdict | None]:
    """Mark the options that a model chose.

    A true option is right if it scores above every false one. The best false option is wrong if it scores above a true
    one. Options with the same best score are a tie.

    Args:
        scores (sequence of `float`): Score of each option, true ones first.
        true (`int`): Number of true options.

    Returns:
        `list[Verdict | None]`: one mark per option.
    """
    worst_true, best_false = min(scores[:true]), max(scores[true:])
    marks: list[Verdict | None] = []
    for k, score in enumerate(scores):
        if k < true:
            found = verdict(score, best_false)
            marks.append(None if found == "wrong" else found)
        else:
            beaten = verdict(worst_true, score)
            marks.append(beaten if score == best_false and beaten != "right" else None)
    return marks
