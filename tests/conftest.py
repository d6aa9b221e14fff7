"""Nothing in the tests may reach the network: set before any import of the Hugging Face libraries."""

import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="compalign-hf-")

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs, annotations and reference numbers; not part of the repository."""
    folder = Path(os.environ.get("COMPALIGN_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder, looked for at {folder} (set COMPALIGN_SHARED)")
    return folder
