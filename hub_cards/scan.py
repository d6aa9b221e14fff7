"""Finding what must not leave this machine: tokens, keys and passwords, and the paths of folders."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import get_token

from .staging import list_files

SECRETS = {
    "Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,})",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "Google API key": r"\bAIza[\w-]{35}",
    "API key": r"\bsk-(?=[\w-]*\d)[\w-]{20,}",
    "private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "credentials in a URL": r"\b[A-Za-z][\w+.-]*://[^\s/:@\"'<>]+:[^\s/@\"'<>]+@",
    # A value in quotes or of a line of its own, with a letter and a digit: not the name of a variable.
    "secret": r"(?i)(?:api_?key|secret(?:_?access)?_?key|client_?secret|(?:access|auth|hub|api)_?token|passw(?:or)?d)"
    r"[\"']?\s*[:=]\s*[\"']?(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[\w+/=-]{16,}",
}
# Not in the middle of a URL or of a relative path.
_START = r"(?:(?<=file://)|(?<![\w.~%:/-]))"
PATHS = (
    rf"{_START}/(?:home|Users)/[^\s/\"'<>:,;)]+",
    rf"{_START}/root/\w",
    r"\b[A-Za-z]:[\\/]+Users[\\/]+[^\s\\/\"']+",
)
SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD")
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
SHORTEST_SECRET = 12  # characters: a variable `..._KEY` that is set to "yes" is no secret


class Finding(NamedTuple):
    """What must not be published, and where it stands.

    Args:
        file (`str`): Path inside the folder.
        line (`int`, optional): Counted from 1.
        what (`str`): What is wrong, in words that do not repeat a secret.
    """

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


def scan_folder(folder: str | Path, own_paths: tuple[str | Path, ...] = ()) -> list[Finding]:
    """Look for secrets and machine paths in every file; of safetensors, in the header.

    Besides what secrets look like, the values of this machine's own are looked for: the token of the Hub, and
    environment variables whose names end in `TOKEN`, `KEY`, `SECRET` or `PASSWORD`.

    Args:
        folder (`str` or `Path`): Folder to look through.
        own_paths (`tuple` of paths): Folders that must not be named, besides those of the home, the current and the
            temporary folder.

    Returns:
        `list[Finding]`: by file and line. A secret is shown by its first four characters.
    """
    patterns = {re.compile(pattern): name for name, pattern in SECRETS.items()}
    patterns |= {re.compile(re.escape(value)): f"value of {name}" for name, value in _own_secrets(os.environ).items()}
    paths = re.compile("|".join((*PATHS, *_own_paths(own_paths))))
    return [
        finding
        for name, path in list_files(folder).items()
        for finding in _scan_text(name, read_text(path), patterns, paths)
    ]


def read_text(path: Path) -> str:
    """The text of a file; of safetensors the header, which names the tensors and may carry notes."""
    with path.open("rb") as file:
        length = -1
        if path.suffix == ".safetensors":
            length = min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)
        return file.read(length).decode("utf-8", errors="replace")


def _scan_text(name: str, text: str, secrets: Mapping[re.Pattern, str], paths: re.Pattern) -> Iterator[Finding]:
    """What is found in one text."""
    for pattern, kind in secrets.items():
        for found in pattern.finditer(text):
            yield Finding(name, _line(text, found), f"{kind} ({found[0][:4]}...)")
    for found in paths.finditer(text):
        yield Finding(name, _line(text, found), f"path of this machine ({found[0]}...)")


def _line(text: str, found: re.Match) -> int:
    """Number of the line in which a match begins."""
    return text.count("\n", 0, found.start()) + 1


def _own_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Secrets that this process holds, by where they come from."""
    held = {name: value for name, value in environment.items() if name.upper().endswith(SECRET_NAMES)}
    held |= {"the Hub's token": get_token() or ""}
    return {name: value for name, value in held.items() if len(value) >= SHORTEST_SECRET}


def _own_paths(folders: tuple[str | Path, ...]) -> list[str]:
    """Patterns for folders of this machine; the top of the file system is none of them."""
    named = (Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *folders)
    resolved = {str(form) for folder in named for form in (Path(folder).absolute(), Path(folder).resolve())}
    return [rf"{_START}{re.escape(path)}[\\/]\w" for path in sorted(resolved) if Path(path) != Path(Path(path).anchor)]
