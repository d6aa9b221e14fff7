"""One command, its subcommands, and users' errors told in one line, before anything heavy is imported."""

import importlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

import compalign
from compalign.scripts import cli

# Runs the command twice in a new process, and prints the heavy packages that it has imported.
TWO_CALLS = """
import sys
from compalign.scripts import cli
for flags in (["--help"], ["--no_such_flag", "1"]):
    try:
        cli.main([sys.argv[1], *flags])
    except SystemExit:
        pass
print("imported:", *sorted({"torch", "transformers", "datasets", "matplotlib", "numpy", "PIL"} & set(sys.modules)))
"""


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
    lines = [line.split(maxsplit=1) for line in printed.out.splitlines()[3:] if line.startswith("  ")]
    assert dict(lines) == cli.COMMANDS
    assert [name for name, _ in lines] == list(cli.COMMANDS)


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"compalign {compalign.__version__}\n"


def test_an_unknown_command_is_refused_with_the_nearest_and_the_accepted_ones(capsys):
    assert cli.main(["evalute", "--model", "x"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"compalign: unknown command 'evalute'; the nearest is 'evaluate'; accepted: {', '.join(cli.COMMANDS)}\n"
    )


@pytest.mark.parametrize("arguments", ["[]", "['--version']", "['evalute']"])
def test_the_command_itself_imports_nothing_beyond_the_standard_library(arguments):
    script = f"import sys; from compalign.scripts import cli; cli.main({arguments}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded & {"yaml", "numpy", "torch", "transformers", "huggingface_hub"} == set()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    main = importlib.import_module(f"compalign.scripts.{command}").main
    assert callable(main)
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert f"compalign {command}" in printed
    assert "--config" in printed or command == "lmms"  # whose flags are not ours


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_and_a_wrong_flag_come_before_anything_heavy(command):
    done = subprocess.run([sys.executable, "-c", TWO_CALLS, command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: compalign {command}" in done.stdout
    assert f"compalign {command}: " in done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_refuses_a_wrong_line_in_one_line(command, capsys):
    if command == "lmms" and importlib.util.find_spec("lmms_eval"):
        pytest.skip("lmms-eval reads its own flags")
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


@pytest.mark.parametrize(
    "error",
    [
        ValueError("batch is 0; accepted: 1 or more"),
        FileNotFoundError("no such recipe"),
        ConnectionError("the Hub does not answer"),
    ],
)
def test_a_users_error_is_its_message_and_no_traceback(error, module_of, capsys):
    module_of("evaluate", failing(error))
    assert cli.main(["evaluate"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"compalign evaluate: {error}\n"


def test_an_interrupted_command_ends_with_one_line(module_of, capsys):
    module_of("evaluate", failing(KeyboardInterrupt()))
    assert cli.main(["evaluate"]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "compalign evaluate: interrupted\n"


@pytest.mark.parametrize("error", [TypeError("ours"), FloatingPointError("loss is not finite"), OSError("disk full")])
def test_any_other_error_keeps_its_traceback(error, module_of):
    module_of("evaluate", failing(error))
    with pytest.raises(type(error), match=str(error)):
        cli.main(["evaluate"])


def test_the_exit_status_is_the_process_status():
    done = subprocess.run([sys.executable, "-m", "compalign.scripts.cli", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("compalign: unknown command 'nothing'")
