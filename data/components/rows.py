"""Rows of a components file: the entities and relations of an image and of its captions."""

import json
import reprlib
from typing import Any, NamedTuple

from ..readers.bad_rows import RowProblem

Box = tuple[float, float, float, float]


class Entity(NamedTuple):
    """An entity of an image.

    Args:
        box (`tuple[float, float, float, float]`): Left, top, right and bottom in pixels, the far edges excluded.
        score (`float`): Confidence of the detector, in [0, 1].
        label (`str`): Name of the entity.
    """

    box: Box
    score: float
    label: str


class Relation(NamedTuple):
    """A pair of entities of an image.

    Args:
        pair (`tuple[int, int]`): Indices of the two entities.
        box (`tuple[float, float, float, float]`): The box around both.
        score (`float`): Product of their scores.
    """

    pair: tuple[int, int]
    box: Box
    score: float


class CaptionComponents(NamedTuple):
    """The components of a caption.

    Args:
        text (`str`): The caption.
        entities (`list[str]`): Its noun phrases, such as "brown dog".
        relations (`list[str]`): Its phrases about two entities, such as "brown dog left of a ball".
    """

    text: str
    entities: list[str]
    relations: list[str]


class ImageComponents(NamedTuple):
    """One row of a components file.

    Args:
        image (`str`): Name of the image.
        width, height (`int`): Size of the image in pixels.
        entities (`list[Entity]`): Entities of the image.
        relations (`list[Relation]`): Pairs of these entities.
        captions (`list[CaptionComponents]`): Captions of the image.
        refused (`list[str]`): Why boxes were left out.
    """

    image: str
    width: int
    height: int
    entities: list[Entity]
    relations: list[Relation]
    captions: list[CaptionComponents]
    refused: list[str]

    def to_json(self) -> str:
        """Return the row as one line of a components file."""
        record = self._asdict()
        for name in ("entities", "relations", "captions"):
            record[name] = [part._asdict() for part in record[name]]
        if not self.refused:
            del record["refused"]
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "ImageComponents":
        """Read one row and check its types and indices. `compalign.data.components.boxes.sound` checks its boxes.

        Args:
            record (`dict`): A parsed line of a components file.

        Returns:
            `ImageComponents`: The row.

        Raises:
            RowProblem: If a value is missing or has the wrong type, or a pair does not name two entities.
        """
        image: Any = record.get("image")
        width: Any = record.get("width")
        height: Any = record.get("height")
        if not isinstance(image, str) or not image:
            raise RowProblem("missing image", reprlib.repr(image))
        if not all(type(side) is int and side > 0 for side in (width, height)):
            raise RowProblem("width and height are not whole numbers above 0", f"{width!r} x {height!r}")
        entities = [
            Entity(_box(part), _score(part), _text(part.get("label"), "label")) for part in _parts(record, "entities")
        ]
        relations = [
            Relation(_pair(part, len(entities)), _box(part), _score(part)) for part in _parts(record, "relations")
        ]
        captions = [
            CaptionComponents(
                _text(part.get("text"), "text"), *(_texts(part, name) for name in ("entities", "relations"))
            )
            for part in _parts(record, "captions")
        ]
        return cls(image, width, height, entities, relations, captions, _texts(record, "refused", []))


def _parts(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Check a list of objects."""
    parts = record.get(name)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise RowProblem(f"{name} is not a list of objects", reprlib.repr(parts))
    return parts


def _text(value: Any, name: str) -> str:
    """Check a text."""
    if not isinstance(value, str):
        raise RowProblem(f"{name} is not text", reprlib.repr(value))
    return value


def _texts(record: dict[str, Any], name: str, default: list[str] | None = None) -> list[str]:
    """Check a list of texts."""
    texts = record.get(name, default)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RowProblem(f"{name} is not a list of texts", reprlib.repr(texts))
    return texts


def _box(part: dict[str, Any]) -> Box:
    """Check that a box is four numbers."""
    box: Any = part.get("box")
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(_is_number(edge) for edge in box):
        raise RowProblem("box is not four numbers", reprlib.repr(box))
    return tuple(box)


def _score(part: dict[str, Any]) -> float:
    """Check a score."""
    score: Any = part.get("score")
    if not _is_number(score) or not 0 <= score <= 1:
        raise RowProblem("score is not in [0, 1]", reprlib.repr(score))
    return score


def _pair(part: dict[str, Any], count: int) -> tuple[int, int]:
    """Check that a pair names two different entities out of `count`."""
    pair: Any = part.get("pair")
    named = isinstance(pair, (list, tuple)) and len(pair) == 2
    if not named or not all(type(index) is int and 0 <= index < count for index in pair) or pair[0] == pair[1]:
        raise RowProblem(f"pair does not name two of {count} entities", reprlib.repr(pair))
    return pair[0], pair[1]


def _is_number(value: Any) -> bool:
    """Return whether a value is a number. JSON's true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
