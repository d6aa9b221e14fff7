"""Help and typing errors of commands that train nothing come at once: nothing heavy is imported for them."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "matplotlib", "gradio", "numpy", "PIL")
LINES = {
    "evaluate": ["--batch_size many", "--model x"],
    "compare": ["--alphas half", "--result x", "--interpolate one", "--published"],
    "score": ["photo.jpg a b", "--model m --threshold high", "photo.jpg --model m"],
    "tokens": ["--model m --image i", "--model m --image i --text t --cal_clamp 1 2 3"],
    "space": ["--port x", "--folder no"],
    "convert": ["--source s", "--source s --output_dir o --kind bert", "--source s --output_dir o --to open_clip"],
    "speed": ["trainings", "cal --batch many", "evaluation --image x", "store --vectors x", "training --tiny 3"],
}
SCRIPT = """
import importlib, json, sys
main = importlib.import_module(f"compalign.scripts.{sys.argv[1]}").main
ended = []
for line in json.loads(sys.argv[2]):
    try:
        main(line.split())
    except (SystemExit, ValueError) as stop:
        ended.append([type(stop).__name__, str(stop)])
print(json.dumps([ended, sorted(set(sys.modules) & set(json.loads(sys.argv[3])))]))
"""


@pytest.mark.parametrize("command", LINES)
def test_help_and_wrong_lines_are_answered_without_heavy_imports(command):
    lines = ["--help", *LINES[command]]
    arguments = [command, json.dumps(lines), json.dumps(HEAVY)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    *printed, last = done.stdout.splitlines()
    ended, loaded = json.loads(last)
    assert loaded == []
    assert printed[0].startswith(f"usage: compalign {command} ")
    assert ended[0] == ["SystemExit", "0"]
    assert [kind for kind, _ in ended[1:]] == ["ValueError"] * len(LINES[command])
    assert all(message and "\n" not in message for _, message in ended[1:])
