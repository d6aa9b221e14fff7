"""Build the documentation into build/docs; a broken link or a reference to a missing name is an error.

    make docs

Zensical renders the pages and mkdocstrings the API reference. Both expect one folder of Markdown and one package tree;
the repository is arranged differently. So this script first fills two folders in `build`:

- `pages`: the pages of `docs`, README.md, CONTRIBUTING.md, CHANGELOG.md, and every file that a page links to;
- `api/compalign`: links to the library's folders under their import names. Nothing is imported.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS, BUILD = REPOSITORY / "docs", REPOSITORY / "build"
# As setup.py maps them.
ROOT, ROOMS = "scripts/package", ("modeling", "data", "trainers", "evaluation", "hub_cards", "scripts")
TOP_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)([^)\s]*)\)")  # a relative one: text, path, anchor


def main() -> int:
    """Lay out pages and package, then build; return the exit status."""
    for name in ("pages", "api", "docs"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    link_package(BUILD / "api" / "compalign")
    if broken := copy_pages(BUILD / "pages"):
        print("\n".join(["links that lead nowhere:", *broken]), file=sys.stderr)
        return 1
    for name in ("mkdocs.yml", "docstrings.py"):
        shutil.copy(DOCS / name, BUILD / name)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "mkdocs.yml"]
    return subprocess.run(command, cwd=BUILD).returncode


def link_package(package: Path) -> None:
    """Make a tree of links in which the library's folders have their import names."""
    package.mkdir(parents=True)
    for file in (REPOSITORY / ROOT).glob("__init__.py*"):
        (package / file.name).symlink_to(file)
    for room in ROOMS:
        (package / room).symlink_to(REPOSITORY / room)


def copy_pages(target: Path) -> list[str]:
    """Copy every page and all that pages link to, with links rewritten to the new places; return the broken links."""
    waiting = [*DOCS.rglob("*.md"), *(REPOSITORY / name for name in TOP_PAGES)]
    copied, broken = set(waiting), []
    while waiting:
        source = waiting.pop()
        place = target / place_of(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copy(source, place)
            continue
        text, linked = moved_links(source.read_text(encoding="utf-8"), source)
        place.write_text(text, encoding="utf-8")
        broken += [
            f"{source.relative_to(REPOSITORY)}: {os.path.relpath(file, REPOSITORY)}"
            for file in sorted(linked)
            if not file.is_file()
        ]
        waiting += [file for file in linked - copied if file.is_file()]
        copied |= linked
    return broken


def moved_links(text: str, page: Path) -> tuple[str, set[Path]]:
    """Rewrite the links of a page; code blocks stay. A folder has no page, so a link to one becomes its text.

    Args:
        text (`str`): The page.
        page (`Path`): Where it is in the repository.

    Returns:
        `tuple`: the new text, and the files that it links to, whether they exist or not.
    """
    linked: set[Path] = set()

    def moved(found: re.Match[str]) -> str:
        words, target, anchor = found.groups()
        file = (page.parent / target).resolve()
        if file.is_dir():
            return words
        linked.add(file)
        return f"[{words}]({os.path.relpath(place_of(file), place_of(page).parent)}{anchor})"

    fences = [found[0] for found in FENCE.finditer(text)]
    prose = [LINK.sub(moved, part) for part in FENCE.split(text)]
    return "".join(part for pair in zip(prose, [*fences, ""], strict=True) for part in pair), linked


def place_of(file: Path) -> Path:
    """Where a file of the repository is in the site: pages at its top, other files under `files`."""
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    name = file.relative_to(REPOSITORY)
    return Path(name.name.lower()) if str(name) in TOP_PAGES else Path("files") / name


if __name__ == "__main__":
    sys.exit(main())
