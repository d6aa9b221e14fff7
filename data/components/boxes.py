"""Boxes in pixels, (left, top, right, bottom), the far edge excluded: clipping, ranking, regions of relations."""

import math
from collections.abc import Sequence
from itertools import combinations

from ..bad_rows import RowProblem
from .rows import Box, Entity, ImageComponents, Relation


def enclosing(first: Box, second: Box) -> Box:
    """Return the smallest box around two."""
    return *map(min, first[:2], second[:2]), *map(max, first[2:], second[2:])


def clipped(box: Box, width: int, height: int) -> Box:
    """Cut off what lies outside the image.

    Args:
        box (`Box`): Four numbers.
        width, height (`int`): Size of the image in pixels.

    Returns:
        `Box`: With 0 <= left < right <= width and 0 <= top < bottom <= height.

    Raises:
        RowProblem: If an edge is not finite, or no area is left.
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
    """The number of pixels in a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def distinct(entities: Sequence[Entity], most_overlap: float) -> list[Entity]:
    """Keep, by falling score, the entities that overlap no kept one by more than `most_overlap`, in [0, 1].

    A zero-shot detector finds the same dog once as "dog" and once as "brown dog".
    """
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: -entity.score):
        if all(overlap(entity.box, other.box) <= most_overlap for other in kept):
            kept.append(entity)
    return kept


def sound_entities(entities: Sequence[Entity], width: int, height: int) -> tuple[dict[int, Entity], list[RowProblem]]:
    """Clip every entity to the image.

    Args:
        entities (sequence of `Entity`): With any boxes.
        width, height (`int`): Size of the image in pixels.

    Returns:
        The entities whose box has an area inside the image, by their index, and what is wrong with the others.
    """
    sound, problems = {}, []
    for index, entity in enumerate(entities):
        try:
            sound[index] = entity._replace(box=clipped(entity.box, width, height))
        except RowProblem as problem:
            problems.append(RowProblem(problem.reason, f"{entity.label!r} {list(entity.box)} in {width} x {height}"))
    return sound, problems


def sound(row: ImageComponents) -> tuple[ImageComponents, list[RowProblem]]:
    """Clip the boxes of a row to its image; what cannot be clipped is left out, and with an entity its relations.

    Args:
        row (`ImageComponents`): As read.

    Returns:
        The row with the indices of its pairs brought up to date, and what is wrong with the boxes left out.
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
        entities (sequence of `Entity`): Of one image.
        most (`int`): How many pairs to keep, >= 0.

    Returns:
        `list[Relation]`: By falling product of the two scores; equal ones in the order of the entities.

    Reference:
        ComAlign, https://huggingface.co/papers/2409.08206 (the main figure: union boxes, sorted by P_i * P_j). That two
        things are near each other does not make them interact; the paper does not test for it either.
    """
    pairs = [
        Relation((i, j), enclosing(entities[i].box, entities[j].box), round(entities[i].score * entities[j].score, 6))
        for i, j in combinations(range(len(entities)), 2)
    ]
    return sorted(pairs, key=lambda relation: -relation.score)[:most]
