"""One command, its subcommands, and users' errors told without a traceback."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from compalign.scripts import cli


@pytest.fixture
def module_of(monkeypatch):
    """Replace the module of a subcommand by one whose main does as told."""

    def replace(command, main):
        monkeypatch.setitem(sys.modules, f"compalign.scripts.{command}", SimpleNamespace(main=main))

    return replace


def failing(error):
    """A main that raises."""

    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_names_every_command(arguments, capsys):
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [line.split(maxsplit=1) for line in printed.out.splitlines()[2:]]
    assert dict(lines) == cli.COMMANDS


def test_an_unknown_command_is_refused_with_the_accepted_ones(capsys):
    assert cli.main(["evalute", "--model", "x"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"compalign: unknown command 'evalute'; accepted: {', '.join(cli.COMMANDS)}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    main = importlib.import_module(f"compalign.scripts.{command}").main
    assert callable(main)
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert f"compalign {command}" in printed
    assert "--config" in printed


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_refuses_a_wrong_line_in_one_line(command, capsys):
    assert cli.main([command, "--no_such_flag", "1"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"compalign {command}: ")
    assert printed.err.count("\n") == 1


def test_the_subcommand_gets_the_rest_of_the_line(module_of, capsys):
    met = []
    module_of("evaluate", met.append)
    assert cli.main(["evaluate", "--config", "recipe.yaml", "--help"]) == 0
    assert met == [["--config", "recipe.yaml", "--help"]]


@pytest.mark.parametrize("error", [ValueError("batch is 0; accepted: 1 or more"), FileNotFoundError("no such recipe")])
def test_a_users_error_is_its_message_and_no_traceback(error, module_of, capsys):
    module_of("evaluate", failing(error))
    assert cli.main(["evaluate"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"compalign evaluate: {error}\n"


@pytest.mark.parametrize("error", [TypeError("ours"), FloatingPointError("loss is not finite"), OSError("disk full")])
def test_any_other_error_keeps_its_traceback(error, module_of):
    module_of("evaluate", failing(error))
    with pytest.raises(type(error), match=str(error)):
        cli.main(["evaluate"])


def test_the_exit_status_is_the_process_status():
    done = subprocess.run([sys.executable, "-m", "compalign.scripts.cli", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("compalign: unknown command 'nothing'")
