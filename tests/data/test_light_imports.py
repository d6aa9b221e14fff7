"""A command answers `--help` at once: readers, negatives and components load neither torch nor datasets."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "matplotlib", "spacy", "textblob"}


@pytest.mark.parametrize(
    "imports",
    [
        "from compalign.data import NegativeGenerator, RowReport, load_captions, load_components, load_conversations",
        "from compalign.data.components import Detector, ChunkParser, SpacyParser, extract, write_components",
        "from compalign.data.negatives import SpacyTagger, TextBlobTagger, coverage, prepare",
        "import compalign.data.chat, compalign.data.features, compalign.data.readers, compalign.data.provenance",
    ],
)
def test_heavy_libraries_are_not_loaded_by(imports):
    script = f"import sys; {imports}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert HEAVY & set(done.stdout.split()) == set()
