"""The wheel, built and installed apart from the source tree, holds everything and nothing generic."""

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

FOLDERS = ("modeling", "trainers", "data", "evaluation", "hub_cards", "scripts")

# Prints where each module was found; the finder of an editable install must not lend what the wheel forgot.
IMPORT_ALL = """
import importlib, json, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
print(json.dumps({name: importlib.import_module(name).__file__ for name in json.load(sys.stdin)}))
"""


@pytest.fixture(scope="module")
def source(repository, tmp_path_factory) -> Path:
    """A copy of the tree, since building writes into it, without what version control ignores: no clone has that."""
    folder = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    for name in set(listed.split("\0")) - {""}:
        if os.path.lexists(repository / name):  # deleted files stay listed until the deletion is committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, folder / name, follow_symlinks=False)
    return folder


def packaged_files(source: Path) -> list[Path]:
    """Every file in the folders that become packages, by its path from the top."""
    return [
        path.relative_to(source)
        for folder in FOLDERS
        for path in sorted((source / folder).rglob("*"))
        if path.is_file()
    ]


def python_files(source: Path) -> list[Path]:
    """The modules; released models and the Space carry code of their own for the Hub, which is data to us."""
    for_the_hub = tuple(Path("hub_cards", folder) for folder in ("released", "space"))
    modules = [path for path in packaged_files(source) if path.suffix == ".py"]
    return [path for path in modules if not any(path.is_relative_to(folder) for folder in for_the_hub)]


@pytest.fixture(scope="module")
def site(source, tmp_path_factory) -> Path:
    """A folder into which the wheel, and nothing else, is installed."""
    folder = tmp_path_factory.mktemp("install")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    wheels, installed = folder / "wheels", folder / "site"
    subprocess.run([*pip, "wheel", ".", *offline, "--no-build-isolation", "-w", str(wheels)], cwd=source, check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", str(wheel), *offline, "--no-compile", "--target", str(installed)], check=True)
    return installed


@pytest.fixture(scope="module")
def metadata(site) -> Path:
    """The wheel's own description of itself."""
    (folder,) = site.glob("compalign-*.dist-info")
    return folder


def test_nothing_generic_reaches_site_packages(site):
    names = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert names == {"bin", "compalign"}
    assert {path.name for path in (site / "compalign").iterdir()} == set(FOLDERS)


def test_every_file_of_the_folders_is_installed_with_the_same_bytes(site, source):
    names = packaged_files(source)
    assert Path("data/negatives/lexicon.json") in names
    assert [name for name in names if name.is_relative_to("scripts/recipes")]
    missing = [str(name) for name in names if not (site / "compalign" / name).is_file()]
    assert missing == []
    different = [name for name in names if (site / "compalign" / name).read_bytes() != (source / name).read_bytes()]
    assert different == []


def test_linked_source_files_are_installed_as_files(site):
    copies = [site / "compalign" / "modeling" / model / "grouped_text.py" for model in ("degla_clip", "ce_clip")]
    assert not any(path.is_symlink() for path in copies)
    assert copies[0].read_bytes() == copies[1].read_bytes()
    assert not [path for path in site.rglob("*") if path.is_symlink()]


def test_every_module_imports_from_an_empty_folder(site, source, tmp_path):
    modules = [path.parent if path.stem == "__init__" else path.with_suffix("") for path in python_files(source)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        input=json.dumps([".".join(("compalign", *module.parts)) for module in modules]),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"compalign.data", "compalign.modeling.ce_clip", "compalign.trainers.train_degla"} <= found.keys()
    elsewhere = {name: path for name, path in found.items() if not Path(path).is_relative_to(site)}
    assert elsewhere == {}


def test_the_command_is_installed_and_runs(site, metadata, tmp_path):
    entries = configparser.ConfigParser()
    entries.read(metadata / "entry_points.txt")
    assert dict(entries["console_scripts"]) == {"compalign": "compalign.scripts.cli:main"}
    done = subprocess.run(
        [sys.executable, str(site / "bin" / "compalign"), "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: compalign COMMAND")


@pytest.mark.parametrize(
    ("package", "accepted", "refused"),
    [("torch", "2.11.0", "2.10.0"), ("transformers", "5.17.0", "6.0.0"), ("transformers", "5.23.0", "5.16.9")],
)
def test_declared_ranges(package, accepted, refused, metadata):
    headers = message_from_string((metadata / "METADATA").read_text())
    assert headers["Requires-Python"] == ">=3.10"
    requirements = {
        requirement.name: requirement
        for requirement in map(Requirement, headers.get_all("Requires-Dist"))
        if requirement.marker is None
    }
    specifier = requirements[package].specifier
    assert specifier.contains(accepted)
    assert not specifier.contains(refused)
    assert not {"spacy", "evaluate", "deepspeed", "pytest"} & requirements.keys()


def test_every_folder_with_python_files_is_listed_for_packaging(source):
    tree = ast.parse((source / "setup.py").read_text())
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "FOLDERS"
    )
    assert {path.parent.as_posix() for path in python_files(source)} == set(listed.values())
    assert all(name == "compalign." + folder.replace("/", ".") for name, folder in listed.items())
