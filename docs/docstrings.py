"""How the API reference reads our docstrings, which have Hugging Face's form; loaded by the build, see mkdocs.yml."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

PAGES = Path("pages/api")  # from the folder that the site is built in
SECTION = re.compile(r"(\w+):")
# Inside the type, names are in backticks.
ENTRY = re.compile(r"    (?P<names>\w[\w, *]*) \((?P<type>.+?)\):(?P<text>$| .*)")
REFERENCE = re.compile(r"\[`(\w+)`\](?![\[(])")


class Docstrings(griffe.Extension):
    """Types become plain text, the help of a field its description, and [`Name`] a link to where Name is described."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Describe `field(default=..., metadata={"help": ...})` by its help and its default."""
        value = getattr(node, "value", None)
        if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field")):
            return
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        metadata = given.get("metadata")
        if isinstance(metadata, ast.Dict):
            entries = {ast.literal_eval(key): text for key, text in zip(metadata.keys, metadata.values, strict=True)}
            if "help" in entries:
                attr.docstring = griffe.Docstring(as_text(entries["help"]), parent=attr)
        default = given.get("default", getattr(given.get("default_factory"), "body", None))
        attr.value = None if default is None else ast.unparse(default)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite all docstrings once the package is read.

        Raises:
            ValueError: If a docstring refers to a name that is nowhere in the package, or describes an argument that
                its function does not have.
        """
        objects = list(everything(pkg))
        known = {obj.name for obj in objects}
        listed = re.findall(r"^::: (\S+)", "".join(page.read_text() for page in PAGES.glob("*.md")), flags=re.MULTILINE)
        links = {name.rpartition(".")[2]: name for name in listed}

        def linked(found: re.Match[str]) -> str:
            name = found[1]
            if name not in known:
                raise ValueError(f"{obj.path} refers to {name}, which does not exist")
            return f"[`{name}`][{links[name]}]" if name in links else f"`{name}`"

        for obj in objects:
            if obj.docstring:
                check_arguments(obj)
                text = with_plain_types(obj.docstring.value)
                obj.docstring.value = REFERENCE.sub(linked, text)


def everything(obj: griffe.Object) -> Iterator[griffe.Object]:
    """An object, and all that is defined in it."""
    yield obj
    for member in obj.members.values():
        if not member.is_alias:
            yield from everything(member)


def check_arguments(obj: griffe.Object) -> None:
    """Refuse the description of an argument that a function does not have."""
    if not obj.is_function:
        return
    entries = re.search(r"^Args:\n((?:    .*\n?|\n)+)", obj.docstring.value, flags=re.MULTILINE)
    described = re.findall(r"^    (\w[\w, *]*?)(?: \(|:)", entries[1] if entries else "", flags=re.MULTILINE)
    names = {name.strip(" *") for group in described for name in group.split(",")}
    if unknown := names - {parameter.name for parameter in obj.parameters}:
        raise ValueError(f"{obj.path} describes {', '.join(sorted(unknown))}, which it does not take")


def with_plain_types(docstring: str) -> str:
    """Take the markup out of the types of arguments, which the reader shows as code.

    The types of attributes go to the front of their descriptions: the reader would cut off a bracket at their end.
    """
    lines, section = [], None
    for line in docstring.splitlines():
        if found := SECTION.fullmatch(line):
            section = found[1]
        elif found := ENTRY.fullmatch(line):
            names, kind, text = found.group("names", "type", "text")
            if section == "Args":
                kind = REFERENCE.sub(r"\1", kind).replace("`", "").replace("*optional*", "optional")
                line = f"    {names} ({kind}):{text}"
            else:
                line = f"    {names}: ({kind}){text}"
        lines.append(line)
    return "\n".join(lines)


def as_text(node: ast.expr) -> str:
    """The text of a string literal; what an f-string computes, as code."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(
        part.value if isinstance(part, ast.Constant) else f"`{ast.unparse(getattr(part, 'value', part))}`"
        for part in parts
    )
