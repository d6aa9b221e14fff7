"""Boxes in pixels, (left, top, right, bottom) without the far edge: clipping, ranking and regions of relations."""

import math
from collections.abc import Sequence
from itertools import combinations

from ..readers.bad_rows import RowProblem
from .rows import Box, Entity, ImageComponents, Relation


def enclosing(first: Box, second: Box) -> Box:
    """Return the smallest box around two boxes."""
    (left, top), (right, bottom) = map(min, first[:2], second[:2]), map(max, first[2:], second[2:])
    return left, top, right, bottom


def clipped(box: Box, width: int, height: int) -> Box:
    """Clip a box to its image.

    Args:
        box (`Box`): Left, top, right and bottom in pixels.
        width, height (`int`): Size of the image in pixels.

    Returns:
        `Box`: The clipped box, with 0 <= left < right <= width and 0 <= top < bottom <= height.

    Raises:
        RowProblem: If an edge is not finite, or no area is left.

    Example:

        >>> clipped((-5, 10, 70, 40), width=64, height=64)
        (0, 10, 64, 40)
    """
    if not all(map(math.isfinite, box)):
        raise RowProblem("box not finite", str(list(box)))
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise RowProblem("box without area", str(list(box)))
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise RowProblem("box outside the image", f"{list(box)} in {width} x {height}")
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def overlap(first: Box, second: Box) -> float:
    """Return the intersection of two boxes over their union, in [0, 1]; 0 for boxes without area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (_area(first) + _area(second) - shared) if shared else 0.0


def _area(box: Box) -> float:
    """Return the area of a box in pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def non_maximum_suppression(entities: Sequence[Entity], most_overlap: float) -> list[Entity]:
    """Keep the most confident of the entities that overlap, whatever their labels.

    A zero-shot detector finds the same dog once as "dog" and once as "brown dog".

    Args:
        entities (`Sequence[Entity]`): The entities of one image.
        most_overlap (`float`): Largest intersection over union of two entities that are kept, in [0, 1].

    Returns:
        `list[Entity]`: The entities kept, by descending score.
    """
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: -entity.score):
        if all(overlap(entity.box, other.box) <= most_overlap for other in kept):
            kept.append(entity)
    return kept


def sound_entities(entities: Sequence[Entity], width: int, height: int) -> tuple[dict[int, Entity], list[RowProblem]]:
    """Clip the boxes of entities to their image.

    Args:
        entities (`Sequence[Entity]`): Entities with any boxes.
        width, height (`int`): Size of the image in pixels.

    Returns:
        `tuple[dict[int, Entity], list[RowProblem]]`: the entities with an area inside the image, by index, and the
        problems of the others.
    """
    sound, problems = {}, []
    for index, entity in enumerate(entities):
        try:
            sound[index] = entity._replace(box=clipped(entity.box, width, height))
        except RowProblem as problem:
            problems.append(RowProblem(problem.reason, f"{entity.label!r} {list(entity.box)} in {width} x {height}"))
    return sound, problems


def sound(row: ImageComponents) -> tuple[ImageComponents, list[RowProblem]]:
    """Clip the boxes of a row to its image. Entities without an area inside are left out, with their relations.

    Args:
        row (`ImageComponents`): A row with any boxes.

    Returns:
        `tuple[ImageComponents, list[RowProblem]]`: the row, with the pairs of its relations renumbered, and the
        problems of the boxes left out.
    """
    entities, problems = sound_entities(row.entities, row.width, row.height)
    place = {index: position for position, index in enumerate(entities)}
    relations = []
    for relation in row.relations:
        if place.keys() >= set(relation.pair):
            try:
                box = clipped(relation.box, row.width, row.height)
            except RowProblem as problem:
                problems.append(problem)
            else:
                first, second = relation.pair
                relations.append(relation._replace(pair=(place[first], place[second]), box=box))
    return row._replace(entities=list(entities.values()), relations=relations), problems


def relation_regions(entities: Sequence[Entity], most: int = 10) -> list[Relation]:
    """Return the boxes around pairs of entities, the most confident pairs first.

    Args:
        entities (`Sequence[Entity]`): The entities of one image.
        most (`int`): Number of pairs to keep, >= 0.

    Returns:
        `list[Relation]`: The pairs by descending product of their two scores; ties in the order of the entities.

    Example:

        >>> from compalign.data.components import Entity
        >>> dog, ball = Entity((0, 0, 20, 20), 0.9, "dog"), Entity((30, 10, 40, 20), 0.8, "ball")
        >>> relation_regions([dog, ball])
        [Relation(pair=(0, 1), box=(0, 0, 40, 20), score=0.72)]

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206 (main figure: union boxes, sorted by P_i * P_j). Like the
        paper, this does not test whether the two entities interact.
    """
    pairs = [
        Relation((i, j), enclosing(entities[i].box, entities[j].box), round(entities[i].score * entities[j].score, 6))
        for i, j in combinations(range(len(entities)), 2)
    ]
    return sorted(pairs, key=lambda relation: -relation.score)[:most]
