"""What the guides print is what runs: every block of commands, in order, in a folder with small stand-ins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guides import Block, make_folder, read_blocks
from loopback_hub import LoopbackHub, environment

from compalign.scripts.cli import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDES = sorted(path.stem for path in DOCS.glob("*.md"))
# All that differs between what is printed and what runs: less work, heads that are not 64 wide as CLIP's are, and the
# name of results whose model came from a folder and not from the Hub.
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
# What each guide promises to leave behind.
WRITTEN = {
    "fine-tune": ["negatives.jsonl", "results/chart.png", "runs/degla/README.md", "runs/degla/results.json"],
    "cal": ["runs/cal/model.safetensors", "runs/cal_lora/adapter_model.safetensors", "tokens/tokens.png"],
    "comalign": ["components/row_1.png", "runs/comalign/model.safetensors", "score/score.png", "comalign.json"],
    "evaluate": ["results/table.md", "comparison/published.png", "map/map.png", "mixes/interpolation.png"],
    "scale": ["runs/two/checkpoint-2", "runs/two/checkpoint-4"],
    "publish": ["released/epoch_0.pt", "back/conversion.json", "runs/tuned/publication.json"],
}
# How many blocks need what is not here: a GPU, several nodes, the real Hub.
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
    """Run a block as printed, but for the substitutions; return what it prints."""
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


@pytest.mark.parametrize("guide", GUIDES)
def test_links_and_commands_lead_somewhere(guide, repository):
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if "://" not in link and not (DOCS / link).exists()] == []
    assert set(re.findall(r"\bcompalign (\w+) --", text)) <= set(COMMANDS)
    for name in re.findall(r"\b(?:trainers|scripts|benchmarks)/[\w/]+\.(?:py|yaml|json|jinja|md)", text):
        assert (repository / name).is_file(), name
