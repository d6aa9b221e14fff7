"""`compalign scenes`: its commands, and the one that each name leads to."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from compalign.scripts import cli, scenes


@pytest.mark.parametrize("command", scenes.COMMANDS)
def test_each_command_gets_the_rest_of_the_line(command, monkeypatch):
    met = []
    module = f"compalign.scripts.scenes.{scenes.MODULES[command]}"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(main=met.append))
    assert cli.main(["scenes", command, "--seed", "1"]) == 0
    assert met == [["--seed", "1"]]


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["scenes"])
    listed = capsys.readouterr().out.partition("commands:\n")[2]
    lines = [line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("  ")]
    assert dict(lines) == scenes.COMMANDS


@pytest.mark.parametrize("command", scenes.COMMANDS)
def test_every_command_explains_its_flags(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["scenes", command, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: compalign scenes {command} ")
    assert "--output_dir" in printed


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert cli.main(["scenes", "modle"]) == 2
    line = "compalign scenes: unknown command 'modle'; the nearest is 'model'; accepted: "
    assert capsys.readouterr().err == f"{line}{', '.join(scenes.COMMANDS)}\n"


def test_the_room_does_not_import_its_commands():
    script = "import sys, compalign.scripts.scenes; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert {"torch", "transformers"} & set(done.stdout.split()) == set()
