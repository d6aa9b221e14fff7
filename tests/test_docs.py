"""The documentation is true: guides run block by block on small stand-ins, and every name in them exists."""

import functools
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from guides import Block, make_folder, read_blocks
from loopback_hub import LoopbackHub, environment

from compalign.evaluation import BENCHMARKS
from compalign.scripts import cli, scenes, speed, train

DOCS = Path(__file__).resolve().parents[1] / "docs"
# Pages without commands.
OVERVIEWS = {"index", "map"}
GUIDES = sorted({path.stem for path in DOCS.glob("*.md")} - OVERVIEWS)
# The differences between the printed and the executed commands: less work, attention heads that are not 64 wide as
# CLIP's are, and the name of results whose model came from a folder instead of the Hub.
SUBSTITUTIONS = {
    "--num_train_epochs 3": "--max_steps 2",
    "--num_train_epochs 1": "--max_steps 2",
    "--per_device_train_batch_size 64": "--per_device_train_batch_size 4",
    "--activation quick_gelu": "--activation quick_gelu --vision_heads 4 --text_heads 4",
    "max_steps=200": "max_steps=2",
    "every_steps=50": "every_steps=2",
    "per_device_train_batch_size=64": "per_device_train_batch_size=4",
    "results/openai--clip-vit-base-patch32": "results/clip-vit-base-patch32",
}
# Files that each guide promises to write.
WRITTEN = {
    "fine-tune": ["negatives.jsonl", "results/chart.png", "runs/degla/README.md", "runs/degla/results.json"],
    "cal": [
        "runs/cal/model.safetensors",
        "runs/cal_lora/adapter_model.safetensors",
        "runs/cal_merged/model.safetensors",
        "tokens/tokens.png",
    ],
    "comalign": [
        "components/row_1.png",
        "runs/comalign/model.safetensors",
        "score/score.png",
        "results/comalign/results.json",
        "comalign.json",
    ],
    "evaluate": [
        "results/table.md",
        "results/index.html",
        "comparison/published.png",
        "map/map.png",
        "mixes/interpolation.png",
    ],
    "scale": ["runs/two/checkpoint-2", "runs/two/checkpoint-4"],
    "publish": ["original/epoch_0.pt", "back/conversion.json", "runs/tuned/publication.json"],
}
# Number of blocks that need a GPU, several machines or the real Hub.
NOT_RUN = {"cal": 2, "evaluate": 1, "publish": 1, "scale": 4}
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.fixture(scope="session")
def stand_ins(repository, tmp_path_factory) -> Path:
    """The folder that every guide starts from."""
    folder = tmp_path_factory.mktemp("guides")
    make_folder(folder, repository)
    return folder


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


def run(block: Block, folder: Path, variables: dict[str, str]) -> str:
    """Run a block with the substitutions; return its output."""
    text = block.text
    for printed, small in SUBSTITUTIONS.items():
        text = text.replace(printed, small)
    done = subprocess.run(
        [*RUNNERS[block.language], text], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_runs_from_its_first_block_to_its_last(guide, stand_ins, hub, tmp_path):
    folder = shutil.copytree(stand_ins, tmp_path / "folder", symlinks=True)
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    if guide == "publish":
        variables = environment(hub, str(tmp_path / "home")) | {"OMP_NUM_THREADS": "1"}
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    for block in read_blocks(DOCS / f"{guide}.md"):
        if block.language in RUNNERS:
            assert run(block, folder, variables).strip()
    assert [name for name in WRITTEN[guide] if not (folder / name).exists()] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_a_block_that_does_not_run_here_says_what_it_needs(guide):
    blocks = read_blocks(DOCS / f"{guide}.md")
    assert {block.language for block in blocks} <= {*RUNNERS, "console", "text", "json"}
    left = [block for block in blocks if block.language == "console"]
    assert len(left) == NOT_RUN.get(guide, 0)
    assert [block.text for block in left if not re.search(r"\bneeds?\b", block.before)] == []


def test_every_substitution_meets_something():
    printed = "".join(block.text for guide in GUIDES for block in read_blocks(DOCS / f"{guide}.md"))
    assert [text for text in SUBSTITUTIONS if text not in printed] == []


@functools.cache
def flags_of(command: str) -> frozenset[str]:
    """The flags in the help of a command, such as "train degla"; switches in both forms."""
    done = subprocess.run(
        [sys.executable, "-m", "compalign.scripts.cli", *command.split(), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    flags = set(re.findall(r"--(\w+)", done.stdout))
    return frozenset(flags | {flag.removeprefix("no_") for flag in flags} | {f"no_{flag}" for flag in flags})


def command_lines(text: str) -> list[tuple[str, list[str]]]:
    """Commands of ours in the blocks of a page, each with its flags; those of a launcher in front are left out."""
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        ours = re.search(r"(?:^|\s)(?:compalign ((?:(?:train|speed|scenes) )?\w+)|trainers/train_(\w+)\.py)(.*)", line)
        if ours:
            command = ours[1] or f"train {ours[2]}"
            found.append((command, re.findall(r"\s--(\w+)", ours[3])))
    return found


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_and_flags_exist(guide):
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    rooms = {"train": train.METHODS, "speed": speed.MEASUREMENTS, "scenes": scenes.COMMANDS}
    code = "\n".join([*(block.text for block in read_blocks(DOCS / f"{guide}.md")), *re.findall(r"`([^`\n]+)`", text)])
    for command, rest in re.findall(r"^compalign (\w+)(?: (\w+))?", code, flags=re.MULTILINE):
        assert command in {*cli.COMMANDS, "COMMAND"}
        assert not rest or command not in rooms or rest in {*rooms[command], "METHOD"}
    commands = [(command, flags) for command, flags in command_lines(text) if command != "lmms"]  # lmms-eval's flags
    assert commands
    for command, flags in commands:
        assert set(flags) - flags_of(command) == set(), command


# Flags of launchers, which guides name in their text.
LAUNCHERS = {"cpu", "multi_gpu", "num_processes", "machine_rank", "nproc_per_node"}


def test_flags_in_the_text_exist():
    commands = {*cli.COMMANDS} - {"train", "speed", "scenes", "lmms"} | {f"train {method}" for method in train.METHODS}
    known = LAUNCHERS.union({"help", "config", "version"}, *map(flags_of, sorted(commands)))
    for guide in GUIDES:
        text = re.sub(r"^```.*?^```", "", (DOCS / f"{guide}.md").read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
        named = {flag for code in re.findall(r"`([^`]+)`", text) for flag in re.findall(r"(?<!\S)--(\w+)", code)}
        assert named - known == set(), guide


def test_the_table_of_benchmarks_is_complete_and_right():
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", (DOCS / "evaluate.md").read_text(encoding="utf-8"), flags=re.M)
    listed = {name: re.findall(r"`(\w+)`", given) for names, given in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed.keys() == BENCHMARKS.keys()
    for name, given in listed.items():
        parameters = inspect.signature(BENCHMARKS[name]).parameters
        assert set(given) <= set(parameters), name
        assert {key for key, value in parameters.items() if value.default is value.empty} <= set(given), name


def test_every_page_is_in_the_navigation():
    def leaves(nav):
        for entry in nav:
            (target,) = entry.values()
            yield from leaves(target) if isinstance(target, list) else [target]

    builder = load_builder()
    listed = list(leaves(yaml.safe_load((DOCS / "mkdocs.yml").read_text())["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(pages | {name.lower() for name in builder.TOP_PAGES})


def load_builder():
    """docs/build.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_somewhere_and_move_with_the_pages(tmp_path):
    builder = load_builder()
    assert builder.copy_pages(tmp_path) == []
    assert "](files/data/readers/captions.py)" in (tmp_path / "fine-tune.md").read_text()
    assert (tmp_path / "files" / "data" / "readers" / "captions.py").is_file()
    assert "](readme.md)" in (tmp_path / "index.md").read_text()
    text, linked = builder.moved_links(
        "[a](nowhere.md#x) [b](https://b) [c](../data)\n```\n[d](e)\n```\n", DOCS / "x.md"
    )
    assert text == "[a](nowhere.md#x) [b](https://b) c\n```\n[d](e)\n```\n"
    assert linked == {DOCS / "nowhere.md"}


def test_the_reference_names_what_is_public_and_nothing_else():
    listed = re.findall(r"^::: ([\w.]+)", "\n".join(p.read_text() for p in (DOCS / "api").glob("*.md")), flags=re.M)
    assert len(listed) == len(set(listed))
    for name in listed:
        package, _, attribute = name.rpartition(".")
        if name != "compalign.trainers.losses":
            assert hasattr(importlib.import_module(package), attribute), name
    tables = {"compalign.evaluation.BENCHMARKS", "compalign.evaluation.ZERO_SHOT_SETS"}
    for package in ("modeling", "trainers", "data", "evaluation", "hub_cards"):
        public = {f"compalign.{package}.{name}" for name in importlib.import_module(f"compalign.{package}").__all__}
        assert public - set(listed) - tables == set()


@pytest.mark.parametrize("guide", GUIDES)
def test_files_of_the_repository_that_a_guide_names_exist(guide, repository):
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:trainers|scripts|benchmarks|data)/[\w/]+\.(?:py|yaml|json|jinja|md)\b", text):
        if "<" not in name:
            assert (repository / name).is_file(), name
