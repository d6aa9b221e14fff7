"""Every Python example of the README runs as it stands, and every command it names exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compalign import trainers
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


def test_the_first_command_prints_what_stands_below_it(repository, tmp_path):
    """Captions in their order; numbers may differ in the last digit between processors."""
    command, shown = re.search(
        r"```bash\n.*?^(compalign score .*?)```\n\n```text\n(.*?)```", README, flags=re.S | re.M
    ).groups()
    words = [*shlex.split(command.replace("\\\n", " ")), "--output_dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "compalign.scripts.cli", *words[1:]], capture_output=True, text=True, cwd=repository
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [re.findall(r"^(\*?) +(-?[\d.]+) +([\d.]+)%  (.*)$", text, flags=re.M) for text in (shown, done.stdout)]
    assert len(rows[0]) == 3
    for expected, found in zip(*rows, strict=True):
        assert (found[0], found[3]) == (expected[0], expected[3])
        assert float(found[1]) == pytest.approx(float(expected[1]), abs=2e-3)
        assert float(found[2]) == pytest.approx(float(expected[2]), abs=1)


def test_links_lead_somewhere(repository):
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (repository / link).exists()] == []
    assert {"docs/map.md", "CONTRIBUTING.md"} <= set(links)


def test_every_method_is_in_the_first_table():
    table = README[: README.index("## Two commands")]
    assert set(re.findall(r"`(\w+Trainer)`", table)) == set(trainers.__all__) & {
        name for name in trainers.__all__ if name.endswith("Trainer")
    }


def test_blind_baselines_at_chance_do_not_come_before_install():
    assert "blind:" not in README[: README.index("## Install")]
