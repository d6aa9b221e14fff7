"""Provenance of a result: the commit and the versions of the libraries."""

import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIT_SECONDS = 5


def versions(*libraries: str) -> dict[str, str]:
    """Return the installed version of each library, by its name. Libraries that are not installed are left out."""
    found = {}
    for library in libraries:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def git_commit(folder: str | Path = ".") -> str | None:
    """Return the commit that is checked out in a repository.

    Args:
        folder (`str` or `Path`): Any folder of the working tree.

    Returns:
        `str`, *optional*: 40 hexadecimal digits. None if git is not installed or does not answer, or if the folder is
        outside any repository.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
