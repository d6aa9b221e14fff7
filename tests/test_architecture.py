"""Imports run one way and in no circle, models stand alone, each thing has one door: read from the source."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "modeling": {"modeling"},
    "data": {"data"},
    "trainers": {"trainers", "modeling", "data"},
    "evaluation": {"evaluation", "modeling", "data"},
    "hub_cards": {"hub_cards", "evaluation", "modeling", "data"},
    "scripts": {"scripts", "modeling", "data", "trainers", "evaluation", "hub_cards"},
}
OPTIONAL = {"datasets", "evaluate", "deepspeed", "gradio", "playwright", "spacy", "torchvision"}
# Importing these must cost nothing: what they name is loaded when it is first used.
LIGHT = ("compalign", "compalign.data", "compalign.evaluation", "compalign.hub_cards", "compalign.trainers")
HEAVY = {"torch", "transformers", "datasets", "matplotlib"}
# Where a model or a processor may be loaded: the one door, what runs without compalign, and parts of models.
DOORS = (
    "modeling/kinds.py",
    "hub_cards/load_back.py",
    "data/components/detection.py",
    "modeling/comalign/modeling_comalign.py",
    "trainers/launch/*.py",
    "scripts/conversion/*.py",
)
# Neither holds an image model: configurations, parts of a processor, and the language model of a blind baseline.
NO_MODEL = {"AutoConfig", "AutoTokenizer", "AutoImageProcessor", "AutoModelForCausalLM", "PeftConfig"}

TREES = {
    path.relative_to(REPOSITORY): ast.parse(path.read_text())
    for folder in (*MAY_IMPORT, "tests")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if not path.is_relative_to(REPOSITORY / "hub_cards" / "space")  # for the Hub
}
LIBRARY = {path: tree for path, tree in TREES.items() if path.parts[0] != "tests"}
# `evaluate` copies a metric's file and runs the copy, so that it has no package either.
METRIC_MODULES = {path for path in LIBRARY if path.match("evaluation/metric_modules/*.py")}
ENTRY_POINTS = {path for path in LIBRARY if path.match("trainers/train_*.py")} | METRIC_MODULES
MODEL_FILES = {path for path in LIBRARY if list((REPOSITORY / path).parent.glob("configuration_*.py"))}


class Import(NamedTuple):
    """One imported module: its absolute name, as if seen from outside, and how many dots it was written with."""

    module: str
    dots: int

    @property
    def top(self) -> str:
        """The distribution, or the folder of ours with `compalign.` in front."""
        parts = self.module.split(".")
        return ".".join(parts[:2]) if parts[0] == "compalign" else parts[0]


def imports(path: Path, nodes: Iterator[ast.AST]) -> Iterator[Import]:
    """What these nodes of a file import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ("compalign", *path.parent.parts)[: len(path.parts) + 1 - node.level] if node.level else ()
            # The last name may be a module too: `from .. import modeling`.
            yield from (Import(".".join(filter(None, [*package, node.module, a.name])), node.level) for a in node.names)


def at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: none inside a function, none for type checkers only."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def ours(path: Path, tree: ast.Module) -> set[str]:
    """Folders of ours that a file imports from, at any time."""
    tops = {found.top for found in imports(path, ast.walk(tree))}
    return {top.removeprefix("compalign.") for top in tops if top.startswith("compalign")}


def foreign(path: Path, tree: ast.Module) -> set[str]:
    """Packages beyond the standard library and ours that a file imports, at any time."""
    tops = {found.top for found in imports(path, ast.walk(tree))}
    return {top for top in tops if not top.startswith("compalign")} - sys.stdlib_module_names


def where(path: Path, node: ast.AST) -> str:
    """Name a place as editors do."""
    return f"{path}:{node.lineno}"


def module_name(path: Path) -> str:
    """The name under which a file is imported; the root package has a folder of its own."""
    parts = path.parts[2:] if path.is_relative_to("scripts/package") else path.parts
    return ".".join(("compalign", *parts)).removesuffix(".py").removesuffix(".__init__")


def needs(path: Path, tree: ast.Module, modules: set[str]) -> set[str]:
    """Modules of ours that must be imported before a file is."""
    found = {each.module for each in imports(path, at_import_time(tree)) if each.top.startswith("compalign")}
    # The last part is a module, or a name in one.
    return {name if name in modules else name.rpartition(".")[0] for name in found} & modules - {module_name(path)}


def loads(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls that load a model or a processor from a folder or the Hub."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            owner, _, name = ast.unparse(node.func).rpartition(".")
            loaded = name == "from_pretrained" and owner.rpartition(".")[2] not in NO_MODEL
            if loaded or (name == "pipeline" and owner in ("", "transformers")):
                yield node


def test_the_rules_meet_files():
    assert {path.parts[0] for path in LIBRARY} == set(MAY_IMPORT)
    assert {path.stem for path in ENTRY_POINTS} >= {"train_negclip", "train_ceclip", "train_degla"}
    assert {path.parent.name for path in MODEL_FILES} == {"clip", "comalign", "llava_cal"}
    for pattern in DOORS:
        assert [path for path in LIBRARY if path.match(pattern) and list(loads(LIBRARY[path]))], pattern


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder):
    for path, tree in LIBRARY.items():
        if path.parts[0] == folder:
            assert ours(path, tree) - MAY_IMPORT[folder] == set(), path


def test_of_data_the_cards_need_only_where_things_were_made():
    for path, tree in LIBRARY.items():
        if path.parts[0] == "hub_cards":
            found = {each.module for each in imports(path, ast.walk(tree)) if each.top == "compalign.data"}
            assert all(module.startswith("compalign.data.provenance.") for module in found), path


def test_no_module_needs_itself():
    """Sorting fails, and names the circle, where modules need each other while they are imported."""
    names = {path: module_name(path) for path in LIBRARY}
    graph = {name: needs(path, LIBRARY[path], set(names.values())) for path, name in names.items()}
    assert sum(map(len, graph.values())) > len(graph)
    assert set(TopologicalSorter(graph).static_order()) == set(names.values())


def test_there_is_one_door_to_a_model():
    """`compalign.modeling.load_model` and `load_processor`, which say in one sentence what is wrong with a folder."""
    elsewhere = [
        f"{where(path, node)}: {ast.unparse(node.func)}"
        for path, tree in LIBRARY.items()
        if not any(path.match(pattern) for pattern in DOORS)
        for node in loads(tree)
    ]
    assert elsewhere == []


def test_library_files_import_relatively_and_entry_points_absolutely():
    """An entry point is run as a file, which has no package; a library file must be one object however it is found."""
    for path, tree in LIBRARY.items():
        within = [found for found in imports(path, ast.walk(tree)) if found.top.startswith("compalign")]
        wrong = {found.module for found in within if (found.dots > 0) == (path in ENTRY_POINTS)}
        assert wrong == set(), path


def test_model_folders_load_without_the_rest():
    """On the Hub they find torch, transformers, huggingface_hub and the files beside them."""
    for path in MODEL_FILES:
        assert foreign(path, TREES[path]) <= {"torch", "transformers", "huggingface_hub"}, path
        strangers = {found.module for found in imports(path, ast.walk(TREES[path])) if found.dots > 1}
        assert strangers == set(), path


def test_losses_know_nothing_but_torch():
    """And one constant of the labels, and a model's score that is also a loss's argument."""
    path = Path("trainers/losses.py")
    assert foreign(path, TREES[path]) == {"torch"}
    modules = {found.module for found in imports(path, ast.walk(TREES[path]))}
    assert {module for module in modules if module.startswith("compalign")} <= {
        "compalign.data.chat.IGNORED_LABEL",
        "compalign.modeling.comalign.similarity.component_similarity",
    }
    assert "torch.distributed" not in modules


@pytest.mark.parametrize("path", [path for path in LIBRARY if path not in METRIC_MODULES], ids=str)
def test_optional_packages_are_imported_where_they_are_used(path):
    assert {found.top for found in imports(path, at_import_time(LIBRARY[path]))} & OPTIONAL == set()
    assert "torchvision" not in foreign(path, LIBRARY[path])


@pytest.mark.parametrize("path", TREES, ids=str)
def test_our_folders_are_never_imported_by_their_bare_names(path):
    """From the top of the source tree `import modeling` would succeed, and make every class a second time."""
    bare = {found.module for found in imports(path, ast.walk(TREES[path])) if found.top in MAY_IMPORT}
    assert bare == set()


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_no_assertions_and_no_bare_excepts(path):
    nodes = list(ast.walk(LIBRARY[path]))
    assert [where(path, node) for node in nodes if isinstance(node, ast.Assert)] == []
    assert [where(path, node) for node in nodes if isinstance(node, ast.ExceptHandler) and node.type is None] == []


@pytest.mark.parametrize("module", [*LIGHT, "compalign.scripts.cli"])
def test_an_import_starts_without_torch(module):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert HEAVY & set(done.stdout.split()) == set()


@pytest.mark.parametrize("module", LIGHT)
def test_every_name_that_an_import_promises_can_be_loaded(module):
    package = importlib.import_module(module)
    assert package.__all__
    assert [name for name in package.__all__ if getattr(package, name, None) is None] == []
    stub = Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert set(re.findall(r"import \w+ as (\w+)$", stub, flags=re.MULTILINE)) == set(package.__all__)
