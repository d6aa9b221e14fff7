"""The wheel, built and installed apart from the source tree, holds everything and nothing generic."""

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

FOLDERS = ("modeling", "trainers", "data", "evaluation", "hub_cards", "scripts")
ROOT = Path("scripts/package")  # holds the files of `compalign` itself
RELEASED, SPACE = Path("hub_cards/released"), Path("hub_cards/space")
BASE = RELEASED / "scenes_base"  # the one released model that is installed: the demo starts from it

# Prints where each module was found; the finder of an editable install must not lend what the wheel forgot.
IMPORT_ALL = """
import importlib, json, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
print(json.dumps({name: importlib.import_module(name).__file__ for name in json.load(sys.stdin)}))
"""
# Prints what an interactive user meets first.
IMPORT_ROOT = """
import json, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import compalign
heavy = [name for name in ("torch", "transformers", "datasets") if name in sys.modules]
print(json.dumps([compalign.__file__, compalign.__version__, dir(compalign), heavy]))
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
    """Every file that is installed, by its path from the top."""
    files = [
        path.relative_to(source)
        for folder in FOLDERS
        for path in sorted((source / folder).rglob("*"))
        if path.is_file()
    ]
    return [path for path in files if not path.is_relative_to(RELEASED) or path.is_relative_to(BASE)]


def installed(path: Path) -> Path:
    """Where a file of the source tree lies in the package."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def python_files(source: Path) -> list[Path]:
    """The modules; the Space carries code of its own for the Hub, which is data to us."""
    return [path for path in packaged_files(source) if path.suffix == ".py" and not path.is_relative_to(SPACE)]


def module_name(path: Path) -> str:
    """The name under which a file is imported."""
    path = installed(path)
    return ".".join(("compalign", *(path.parent if path.stem == "__init__" else path.with_suffix("")).parts))


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


@pytest.fixture(scope="module")
def headers(metadata) -> Message:
    """The fields of the metadata; its body is the README."""
    return message_from_string((metadata / "METADATA").read_text(encoding="utf-8"))


def test_nothing_generic_reaches_site_packages(site):
    names = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert names == {"bin", "compalign"}
    inside = {path.name for path in (site / "compalign").iterdir()}
    assert inside == {*FOLDERS, "__init__.py", "__init__.pyi", "py.typed"}


def test_every_file_of_the_folders_is_installed_with_the_same_bytes(site, source):
    names = packaged_files(source)
    assert Path("data/negatives/lexicon.json") in names
    assert [name for name in names if name.is_relative_to("scripts/recipes")]
    missing = [str(name) for name in names if not (site / "compalign" / installed(name)).is_file()]
    assert missing == []
    different = [
        str(name)
        for name in names
        if (site / "compalign" / installed(name)).read_bytes() != (source / name).read_bytes()
    ]
    assert different == []


def test_nothing_else_is_installed_and_of_the_released_models_the_base_alone(site, source):
    found = {path.relative_to(site / "compalign") for path in (site / "compalign").rglob("*") if path.is_file()}
    assert found == {installed(path) for path in packaged_files(source)}
    assert [path.name for path in (site / "compalign" / RELEASED).iterdir()] == ["scenes_base"]


def test_there_is_no_symbolic_link(site, source):
    """Windows checks them out as text files."""
    assert [path for path in source.rglob("*") if path.is_symlink()] == []
    assert [path for path in site.rglob("*") if path.is_symlink()] == []


def test_every_module_imports_from_an_empty_folder(site, source, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        input=json.dumps([module_name(path) for path in python_files(source)]),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"compalign", "compalign.modeling.clip", "compalign.trainers.train_degla"} <= found.keys()
    elsewhere = {name: path for name, path in found.items() if not Path(path).is_relative_to(site)}
    assert elsewhere == {}


def test_the_package_itself_tells_its_version_and_its_names_and_loads_nothing(site, headers, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ROOT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    place, version, names, heavy = json.loads(done.stdout)
    assert Path(place) == site / "compalign" / "__init__.py"
    assert version == headers["Version"]
    assert {"DeGLATrainer", "evaluate_model", "load_captions", "load_model", "publish", "trainers"} <= set(names)
    assert heavy == []


def test_the_metadata_presents_the_project(headers, source):
    assert headers["Author"] == "compalign contributors"
    assert headers["Description-Content-Type"] == "text/markdown"
    assert headers.get_payload().strip() == (source / "README.md").read_text(encoding="utf-8").strip()
    addresses = [headers["Home-Page"], *(entry.split(", ")[1] for entry in headers.get_all("Project-URL"))]
    assert all(address.startswith("https://github.com/compalign/compalign") for address in addresses)
    assert "Programming Language :: Python :: 3.10" in headers.get_all("Classifier")
    assert headers["Keywords"]
    assert "hub" not in headers.get_all("Provides-Extra")


def test_a_wheel_can_be_built_from_the_source_distribution(source, tmp_path):
    """pip does so where a release has no wheel: what setup.py reads must be in the archive."""
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {Path(*Path(name).parts[1:]) for name in file.getnames()}
    assert {Path("README.md"), Path("setup.py"), Path("pyproject.toml"), Path("LICENSE")} <= names
    missing = [str(path) for path in packaged_files(source) if path not in names]
    assert missing == []


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
def test_declared_ranges(package, accepted, refused, headers):
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
    assert all(name == module_name(Path(folder, "__init__.py")) for name, folder in listed.items())


def test_every_package_that_is_always_needed_is_pinned(headers, source):
    pinned = {line.partition("==")[0] for line in (source / "constraints.txt").read_text().splitlines() if "==" in line}
    required = map(Requirement, headers.get_all("Requires-Dist"))
    assert {requirement.name for requirement in required if requirement.marker is None} - pinned == set()
