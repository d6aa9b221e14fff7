"""Finding what must not leave this machine: tokens, keys and passwords, and the paths of folders.

The formats of most providers come from detect-secrets. Added here are formats that it lacks, this machine's own secrets
and paths, and the headers of safetensors files.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from huggingface_hub import get_token

from .staging import list_files

# Formats that detect-secrets 1.5 lacks, or knows less exactly.
SECRETS = {
    "Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",
    "GitHub fine-grained token": r"\bgithub_pat_\w{22,}",
    "Google API key": r"\bAIza[\w-]{35}",
    "API key": r"\bsk-(?=[\w-]*\d)[\w-]{20,}",
    "encrypted private key": r"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "Slack refresh token": r"\bxoxe(?:\.xox[bp])?-[A-Za-z0-9-]{10,}",
    "credentials in a URL": r"\b[A-Za-z][\w+.-]*://[^\s/:@\"'<>]+:[^\s/@\"'<>]+@",
    "JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    # A value in quotes or on a line of its own, with a letter and a digit: not the name of a variable. In 78 MB of
    # library code, configurations and cards it raises no false alarm; detect-secrets' own detector of keywords raises
    # 63, and knows no "token".
    "secret": r"(?i)(?:api_?key|secret(?:_?access)?_?key|client_?secret|(?:access|auth|hub|api)_?token|passw(?:or)?d)"
    r"[\"']?\s*[:=]\s*[\"']?(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[\w+/=-]{16,}",
}
# Not used of detect-secrets: version numbers look like addresses; its URLs with credentials accept no password with
# punctuation; and its JSON web tokens are too wide a pattern without decoding.
NOT_USED = ("Public IP (ipv4)", "Basic Auth Credentials", "JSON Web Token")
# Not in the middle of a URL or of a relative path.
_START = r"(?:(?<=file://)|(?<![\w.~%:/-]))"
PATHS = (
    rf"{_START}/(?:home|Users)/[^\s/\"'<>:,;)]+",
    rf"{_START}/root/\w",
    r"\b[A-Za-z]:[\\/]+Users[\\/]+[^\s\\/\"']+",
)
SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD")
LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors
SHORTEST_SECRET = 12  # characters: a variable `..._KEY` that is set to "yes" is no secret


class Finding(NamedTuple):
    """Something that must not be published, and its place.

    Args:
        file (`str`): Path inside the folder.
        line (`int`, *optional*): Counted from 1.
        what (`str`): The problem, in words that do not repeat a secret.
    """

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


def scan_folder(folder: str | Path, own_paths: tuple[str | Path, ...] = ()) -> list[Finding]:
    """Look for secrets and machine paths in every file; in safetensors files, look in the header.

    Besides known formats of secrets, it looks for the values of this machine's own: the token of the Hub, and
    environment variables whose names end in `TOKEN`, `KEY`, `SECRET`, `PASSWORD` or `PASSWD`.

    Args:
        folder (`str` or `Path`): Folder to look through.
        own_paths (`tuple` of paths): Folders that must not be named, besides the home, current and temporary folders.

    Returns:
        `list[Finding]`: by file. A secret is shown by its first four characters.
    """
    patterns = known_formats() | {re.compile(pattern): name for name, pattern in SECRETS.items()}
    patterns |= {re.compile(re.escape(value)): f"value of {name}" for name, value in _own_secrets(os.environ).items()}
    paths = re.compile("|".join((*PATHS, *_own_paths(own_paths))))
    return [
        finding
        for name, path in list_files(folder).items()
        for finding in _scan_text(name, read_text(path), patterns, paths)
    ]


def known_formats() -> dict[re.Pattern, str]:
    """Collect detect-secrets' patterns of providers' tokens and keys, with their names.

    Its detectors of high entropy and of keywords are no patterns and are left out: the first fire on hashes and
    tokenizers, the second on prose.
    """
    found: dict[str, Any] = get_mapping_from_secret_type_to_class()
    return {
        pattern: kind
        for kind, detector in sorted(found.items())
        if issubclass(detector, RegexBasedDetector) and kind not in NOT_USED
        for pattern in detector.denylist
    }


def read_text(path: Path) -> str:
    """Read the text of a file; of safetensors the header, which names the tensors and may carry notes."""
    with path.open("rb") as file:
        length = -1
        if path.suffix == ".safetensors":
            length = min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)
        return file.read(length).decode("utf-8", errors="replace")


def _scan_text(name: str, text: str, secrets: Mapping[re.Pattern, str], paths: re.Pattern) -> Iterator[Finding]:
    """Findings in one text."""
    for pattern, kind in secrets.items():
        for found in pattern.finditer(text):
            yield Finding(name, _line(text, found), f"{kind} ({found[0][:4]}...)")
    for found in paths.finditer(text):
        yield Finding(name, _line(text, found), f"path of this machine ({found[0]}...)")


def _line(text: str, found: re.Match) -> int:
    """Number of the line in which a match begins."""
    return text.count("\n", 0, found.start()) + 1


def _own_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Secrets that this process holds, by their origin."""
    held = {name: value for name, value in environment.items() if name.upper().endswith(SECRET_NAMES)}
    held |= {"the Hub's token": get_token() or ""}
    return {name: value for name, value in held.items() if len(value) >= SHORTEST_SECRET}


def _own_paths(folders: tuple[str | Path, ...]) -> list[str]:
    """Patterns for folders of this machine, the top of the file system excluded."""
    named = (Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *folders)
    resolved = {str(form) for folder in named for form in (Path(folder).absolute(), Path(folder).resolve())}
    return [rf"{_START}{re.escape(path)}[\\/]\w" for path in sorted(resolved) if Path(path) != Path(Path(path).anchor)]
