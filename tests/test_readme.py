"""Every Python example of the README runs as it stands, and every command it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from compalign.scripts.cli import COMMANDS

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number, repository, tmp_path):
    (tmp_path / "hub_cards").symlink_to(repository / "hub_cards")
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_named_commands_and_files_exist(repository):
    commands = set(re.findall(r"^compalign (\w+)", README, flags=re.MULTILINE))
    assert commands
    assert commands <= set(COMMANDS)
    for name in re.findall(r"(?:trainers|scripts)/[\w/]+\.(?:py|yaml)", README):
        assert (repository / name).is_file(), name
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
