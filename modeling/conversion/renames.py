"""Renaming between two layouts of the same weights: tables are data, plans come from names, tensors from plans."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

PLACEHOLDERS = {"layer": r"\d+", "kind": "weight|bias", "rest": ".+"}


class Rename(NamedTuple):
    """One line of a table. `{layer}`, `{kind}` (weight or bias) and `{rest}` stand for the same text on both sides.

    Args:
        released (`str`): Name in the released layout.
        ours (`tuple[str, ...]`): Names in transformers' layout. If there are several, the released tensor is their
            concatenation along the first axis, in this order. If empty, the tensor is left out: the model computes it.
        transposed (`bool`): Whether the two matrices are each other's transpose.
    """

    released: str
    ours: tuple[str, ...]
    transposed: bool = False


class Recipe(NamedTuple):
    """How to make one tensor: the source tensors and a function of them."""

    sources: tuple[str, ...]
    make: Callable[..., Tensor]


Plan = dict[str, Recipe]


def plan_to_ours(table: Iterable[Rename], names: Iterable[str]) -> Plan:
    """Plan the tensors in transformers' layout that a checkpoint with these names holds.

    Args:
        table (iterable of `Rename`): The first line that fits a name is taken.
        names (iterable of `str`): Names in the released layout.

    Returns:
        `dict[str, Recipe]`: by name in transformers' layout.

    Raises:
        ValueError: If no line fits some of the names, which are listed, or two names become the same.
    """
    lines = [(_matcher(line.released), line) for line in table]
    plan, unknown = {}, []
    for name in names:
        fit = next(((found, line) for matcher, line in lines if (found := matcher.fullmatch(name))), None)
        if fit is None:
            unknown.append(name)
            continue
        match, line = fit
        for index, template in enumerate(line.ours):
            make = _transpose if line.transposed else partial(_part, index=index, parts=len(line.ours))
            _add(plan, template.format(**match.groupdict()), Recipe((name,), make))
    _refuse(unknown)
    return plan


def plan_to_released(table: Iterable[Rename], names: Iterable[str]) -> Plan:
    """Plan the tensors in the released layout; the inverse of `plan_to_ours`, bit for bit.

    Args:
        table (iterable of `Rename`): The first line that fits a name is taken.
        names (iterable of `str`): Names in transformers' layout.

    Returns:
        `dict[str, Recipe]`: by name in the released layout.

    Raises:
        ValueError: If no line fits some of the names, two names become the same, or a part of a concatenation is
            missing.
    """
    lines = [(_matcher(template), line, index) for line in table for index, template in enumerate(line.ours)]
    found, unknown = {}, []
    for name in names:
        fits = ((match, line, index) for matcher, line, index in lines if (match := matcher.fullmatch(name)))
        fit = next(fits, None)
        if fit is None:
            unknown.append(name)
            continue
        match, line, index = fit
        released = line.released.format(**match.groupdict())
        _, parts = found.setdefault(released, (line, {}))
        _add(parts, index, name)
    _refuse(unknown)
    for released, (line, parts) in found.items():
        if len(parts) < len(line.ours):
            have = ", ".join(parts.values())
            raise ValueError(f"{released} is made of {len(line.ours)} tensors, but there is only {have}")
    return {
        released: Recipe(
            tuple(parts[index] for index in sorted(parts)), _transpose if line.transposed else _concatenation
        )
        for released, (line, parts) in found.items()
    }


def make_tensors(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Carry out a plan; with meta tensors, it gives shapes and dtypes at no cost.

    Args:
        plan (`dict[str, Recipe]`): Recipes of the tensors to make.
        tensors (mapping of `str` to `torch.Tensor`): A state dict with every source.

    Returns:
        `dict[str, torch.Tensor]`: A state dict. Its tensors may be views of the given ones.
    """
    return {name: recipe.make(*(tensors[source] for source in recipe.sources)) for name, recipe in plan.items()}


def check_complete(made: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that a conversion makes exactly the tensors of a model.

    Args:
        made (mapping of `str` to `torch.Tensor`): State dict that a plan makes; meta tensors suffice.
        expected (mapping of `str` to `torch.Tensor`): State dict of the model.

    Raises:
        ValueError: If tensors are missing, superfluous or of another shape. The message lists them.
    """
    wrong = [f"{name} is missing" for name in expected if name not in made]
    wrong += [f"{name} is superfluous" for name in made if name not in expected]
    wrong += [
        f"{name} is {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in made.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(f"the checkpoint does not fit the model: {'; '.join(wrong)}")


def rename_sources(plan: Plan, stored: Mapping[str, str]) -> Plan:
    """Make a plan with tidy names read the names in the file.

    Args:
        plan (`dict[str, Recipe]`): A plan whose sources are keys of `stored`.
        stored (mapping of `str` to `str`): Stored name of each tidy name.
    """
    return {
        name: Recipe(tuple(stored[source] for source in recipe.sources), recipe.make) for name, recipe in plan.items()
    }


def tidy_names(names: Iterable[str], tidy: Callable[[str], str]) -> dict[str, str]:
    """Map tidy names to stored ones.

    Args:
        names (iterable of `str`): Stored names.
        tidy (`Callable[[str], str]`): Removes a wrapper's additions from a name.

    Returns:
        `dict[str, str]`: stored name by tidy name, in the given order.

    Raises:
        ValueError: If two stored names have the same tidy name.
    """
    stored = {}
    for name in names:
        _add(stored, tidy(name), name)
    return stored


def then(recipe: Recipe, change: Callable[[Tensor], Tensor]) -> Recipe:
    """Return the recipe with one more step."""
    return Recipe(recipe.sources, lambda *tensors: change(recipe.make(*tensors)))


def same(tensor: Tensor) -> Tensor:
    """The step that changes nothing."""
    return tensor


def _matcher(template: str) -> re.Pattern[str]:
    """The regular expression of a template."""
    pieces = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{piece}>{PLACEHOLDERS[piece]})" if index % 2 else re.escape(piece)
            for index, piece in enumerate(pieces)
        )
    )


def _add(entries: dict, key: str | int, value: Recipe | str) -> None:
    """Add an entry that must be new."""
    if key in entries:
        raise ValueError(f"two tensors claim one place ({key}): {entries[key]} and {value}")
    entries[key] = value


def _refuse(unknown: list[str]) -> None:
    """Refuse names that no line of the table fits."""
    if unknown:
        raise ValueError(f"{len(unknown)} tensors have no place in the other layout: {', '.join(unknown)}")


def _transpose(tensor: Tensor) -> Tensor:
    """The transpose, laid out in memory."""
    return tensor.T.contiguous()


def _part(tensor: Tensor, index: int, parts: int) -> Tensor:
    """One of several equal parts along the first axis."""
    return tensor if parts == 1 else tensor.chunk(parts)[index]


def _concatenation(*tensors: Tensor) -> Tensor:
    """The tensors concatenated along the first axis; a single tensor, which may be a scalar, is returned as it is."""
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]
