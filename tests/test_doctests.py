"""Every example in a docstring runs and gives what it shows."""

import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("modeling", "trainers", "data", "evaluation", "hub_cards", "scripts")
# Written for the Hub, where compalign is absent or installed beside them.
FOR_THE_HUB = ("hub_cards/released", "hub_cards/space")

SOURCES = {
    ".".join(("compalign", *path.relative_to(REPOSITORY).with_suffix("").parts)).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if not any(path.is_relative_to(REPOSITORY / folder) for folder in FOR_THE_HUB) and ">>> " in path.read_text()
}


def test_examples_are_found():
    assert SOURCES.keys() >= {"compalign.data.readers.captions", "compalign.data.negatives.generator"}


@pytest.mark.parametrize("module", SOURCES)
def test_examples_give_what_they_show(module, monkeypatch):
    """They run at the top of the repository; an example that doctest does not find counts as a failure."""
    monkeypatch.chdir(REPOSITORY)
    outcome = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
    assert outcome.attempted == SOURCES[module].read_text().count(">>> ")
