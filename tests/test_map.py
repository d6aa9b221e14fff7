"""docs/map.md names every Python file, and every file that it names exists."""

import re
from pathlib import Path

import pytest

ROOMS = ("modeling", "data", "trainers", "evaluation", "hub_cards", "scripts")
LINE = re.compile(r"(?P<indent> *)(?P<name>\S+)(?: {2,}(?P<phrase>.+))?")


@pytest.fixture(scope="module")
def named(repository) -> dict[str, str]:
    """The phrase of each path on the map; indentation tells in which folder a line is."""
    text = (repository / "docs" / "map.md").read_text(encoding="utf-8")
    found = {}
    for block in re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL):
        folders: list[str] = []
        for line in block.splitlines():
            parts = LINE.fullmatch(line)
            assert parts, f"not a line of the tree: {line!r}"
            folders = folders[: len(parts["indent"]) // 2]
            path = "".join([*folders, parts["name"]])
            assert path not in found, f"named twice: {path}"
            found[path] = parts["phrase"] or ""
            if path.endswith("/"):
                folders.append(parts["name"])
    return found


def python_files(repository: Path) -> set[str]:
    """The Python files of the rooms, by their paths from the top."""
    return {
        path.relative_to(repository).as_posix() for room in ROOMS for path in sorted((repository / room).rglob("*.py"))
    }


def test_every_python_file_is_on_the_map(named, repository):
    assert sorted(python_files(repository) - named.keys()) == []


def test_everything_on_the_map_exists(named, repository):
    """A pattern stands for at least one file."""
    assert [path for path in named if not list(repository.glob(path.rstrip("/")))] == []
    assert {path for path in named if path.endswith("/")} >= {f"{room}/" for room in ROOMS}


def test_every_line_says_something(named):
    assert [path for path, phrase in named.items() if not phrase and path.rstrip("/") not in ROOMS] == []
