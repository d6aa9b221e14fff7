"""The page that `--help` prints: a command's own flags by group, with defaults; then the Trainer's, one line each."""

import dataclasses
import shutil
import textwrap
from collections.abc import Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

# In this order; a dataclass names its group in `GROUP`, a field in its metadata.
GROUPS = ("model", "data", "method", "what to do", "training", "output")
# Fields of TrainingArguments that most runs set.
USUAL = {
    *("max_steps", "gradient_accumulation_steps", "bf16", "activation_checkpointing", "seed", "use_cpu", "deepspeed"),
    "dataloader_num_workers",
}
OUTPUT = {"output_dir", "logging_steps", "save_strategy", "save_steps", "save_total_limit", "report_to", "push_to_hub"}
OURS = {"resume", "overwrite"}  # fields that transformers' own parser reads, which takes no group in their metadata
THE_TRAINERS = "more of transformers.TrainingArguments"
TRAINER_DOCUMENTATION = "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"
VALUES = {int: "INTEGER", float: "NUMBER"}
INDENT, COLUMN = 2, 34  # where flags and where their sentences begin


def help_page(dataclasses_: Sequence[type], hints: dict[str, Any], description: str, command: str) -> str:
    """Lay out the help of a command.

    Args:
        dataclasses_ (sequence of `type`): Whose fields are the flags.
        hints (`dict[str, Any]`): Annotation of each field.
        description (`str`): What the command does, with examples: a module's docstring.
        command (`str`): How it is called, such as `compalign score`.

    Returns:
        `str`: as wide as the terminal, 120 columns at most.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = [f"usage: {command} [--config recipe.yaml] [--flag value ...]", "", description.strip(), ""]
    entries: dict[str, list[str]] = {group: [] for group in GROUPS}
    for dataclass_ in dataclasses_:
        for item in dataclasses.fields(dataclass_):
            if item.init and item.name in hints:
                group = _group_of(dataclass_, item)
                entries.setdefault(group, []).append(_entry(item, hints[item.name], width, short=group == THE_TRAINERS))
    for group in sorted(entries, key=THE_TRAINERS.__eq__):
        if entries[group]:
            about = f", described at {TRAINER_DOCUMENTATION}" if group == THE_TRAINERS else ""
            lines += [f"{group}{about}:", *entries[group], ""]
    lines += ["--config names a YAML recipe with any of these keys; flags on the command line beat it."]
    return "\n".join(lines)


def _group_of(dataclass_: type, item: dataclasses.Field) -> str:
    """The title under which a flag stands."""
    if "group" in item.metadata:
        return item.metadata["group"]
    if item.name in OURS:
        return "output"
    defining = [parent for parent in dataclass_.__mro__ if item.name in vars(parent).get("__annotations__", {})]
    if defining[-1].__module__ != "transformers.training_args":
        return getattr(defining[-1], "GROUP", "what to do")
    if item.name in OUTPUT:
        return "output"
    return THE_TRAINERS if defining[0] is defining[-1] and item.name not in USUAL else "training"


def _entry(item: dataclasses.Field, hint: Any, width: int, short: bool) -> str:
    """A flag with its value, its sentence and its default."""
    sentence = item.metadata.get("help", "")
    default = _default(item)
    flag = f"{' ' * INDENT}{_flag(item, hint)}"
    if short:
        room = max(width - COLUMN - len(default) - 1, 0)
        sentence = textwrap.shorten(sentence, room, placeholder=" ...")
    text = f"{sentence} {default}".strip()
    beside = textwrap.wrap(text, width - COLUMN) or [""]
    first = f"{flag:<{COLUMN - 1}} {beside[0]}" if len(flag) < COLUMN else f"{flag}\n{' ' * COLUMN}{beside[0]}"
    return "\n".join([first.rstrip(), *(" " * COLUMN + line for line in beside[1:])])


def _flag(item: dataclasses.Field, hint: Any) -> str:
    """Write a flag as it is typed: a switch that is on by default with its other form, others with their value."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if bool in members:
        return f"--[no_]{item.name}" if item.default is True else f"--{item.name}"
    for member in members:
        if get_origin(member) is Literal:
            return f"--{item.name} {{{','.join(map(str, get_args(member)))}}}"
    lists = [member for member in members if get_origin(member) is list]
    kinds = get_args(lists[0]) if lists else members
    word = next((VALUES[kind] for kind in kinds if kind in VALUES), "TEXT")
    return f"--{item.name} {word}{' ...' if lists else ''}"


def _default(item: dataclasses.Field) -> str:
    """The default of a field, in brackets."""
    value = item.default
    if value is dataclasses.MISSING:
        if item.default_factory is dataclasses.MISSING:
            return "[required]"
        value = item.default_factory()
    if isinstance(value, bool):
        return f"[{'on' if value else 'off'} by default]"
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    shown = getattr(value, "value", value)  # an enumeration by what is typed
    return "" if shown is None or shown == "" else f"[default: {shown}]"
