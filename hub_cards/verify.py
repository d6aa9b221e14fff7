"""Checks of a folder before it is published: its files, its card, and that it loads without compalign."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..evaluation.results import Results
from . import load_back
from .render import eval_results, interval, shown_scores
from .scan import Finding
from .staging import list_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CARD, RESULTS, CONFIG = "README.md", "results.json", "config.json"
ENDINGS = (".safetensors", ".json", ".jsonl", ".jinja", ".md", ".txt", ".yaml", ".py", ".model", ".png", ".svg")
NAMES = ("LICENSE", "NOTICE")
PLACEHOLDER = re.compile(
    r"(?i)\[more information needed\]|\b(?:todo|tbd|fixme|lorem ipsum)\b|\{\{ |\{%|<(?:your|insert)\b|\byour-\w+/"
)
TOLERANCE = 1e-4  # of the answers: in another process kernels may sum in another order


def check_files(folder: str | Path) -> list[Finding]:
    """Find files that must not be published, and missing or unreadable weights, which must be safetensors.

    Args:
        folder (`str` or `Path`): Folder to check.

    Returns:
        `list[Finding]`: the problems.
    """
    files = list_files(folder)
    accepted = f"accepted: {', '.join((*ENDINGS, *NAMES))}; leave it out, or convert it to safetensors"
    findings = [
        Finding(name, None, f"unexpected file type; could contain a pickle; {accepted}")
        for name, path in files.items()
        if path.suffix not in ENDINGS and path.name not in NAMES
    ]
    weights = {name: path for name, path in files.items() if path.suffix == ".safetensors"}
    if not weights:
        findings.append(Finding("*.safetensors", None, "there are no weights"))
    for name, path in weights.items():
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            findings.append(Finding(name, None, f"cannot be read: {error}"))
    return findings + _check_backbone(files)


def _check_backbone(files: dict[str, Path]) -> list[Finding]:
    """Find a frozen encoder that is named by a folder, which nobody who downloads the model has."""
    if CONFIG not in files:
        return []
    backbone = json.loads(files[CONFIG].read_text(encoding="utf-8")).get("backbone")
    if not isinstance(backbone, str) or not (backbone.startswith((".", "/")) or Path(backbone).exists()):
        return []
    return [Finding(CONFIG, None, f"backbone {backbone!r} is a folder; name the frozen encoder by its Hub id")]


def check_card(folder: str | Path, repo_id: str) -> list[Finding]:
    """Find gaps in a card, and numbers that are not those of `results.json`.

    Args:
        folder (`str` or `Path`): Folder with `README.md` and `results.json`.
        repo_id (`str`): The repository that the usage snippet must load.

    Returns:
        `list[Finding]`: the problems.
    """
    missing = [name for name in (CARD, RESULTS) if not Path(folder, name).is_file()]
    if missing:
        remedy = "evaluate the model with `compalign evaluate` and write its card with `hub_cards.write_card`"
        return [Finding(name, None, f"is missing; {remedy}") for name in missing]
    text = Path(folder, CARD).read_text(encoding="utf-8")
    try:
        card = ModelCard(text)
        results = Results.from_json(Path(folder, RESULTS))
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        return [Finding(CARD, None, f"its header or {RESULTS} cannot be read: {error}")]
    findings = [
        Finding(CARD, text.count("\n", 0, found.start()) + 1, f"placeholder {found[0]!r}")
        for found in PLACEHOLDER.finditer(text)
    ]
    if not card.data.license:
        findings.append(Finding(CARD, None, "names no license"))
    if repo_id not in card.text:
        findings.append(Finding(CARD, None, f"does not show how to load {repo_id}"))
    return findings + _check_numbers(card, results)


def _check_numbers(card: ModelCard, results: Results) -> list[Finding]:
    """Compare the numbers of a card's header and of its tables with the results."""
    written = {(entry.dataset_type, entry.metric_name): entry.metric_value for entry in card.data.eval_results or ()}
    measured = {(entry.dataset_type, entry.metric_name): entry.metric_value for entry in eval_results(results)}
    findings = []
    if written != measured:
        differ = sorted({" ".join(key) for key, _ in written.items() ^ measured.items()})
        findings.append(Finding(CARD, None, f"the header's evaluation is not that of {RESULTS}: {', '.join(differ)}"))
    rows = [line for line in card.text.splitlines() if line.startswith("|")]
    for (benchmark, name), score in shown_scores(results).items():
        if not any(benchmark in row and interval(score) in row for row in rows):
            findings.append(Finding(CARD, None, f"no table shows {benchmark} {name}: {interval(score)}"))
    return findings


def check_loads_back(source: "str | Path | PreTrainedModel", folder: str | Path) -> str:
    """Load a folder in a process that cannot import compalign, and compare weights and answers with the source.

    Args:
        source (`str`, `Path` or `PreTrainedModel`): The model that was staged, or its folder.
        folder (`str` or `Path`): The staged files, with the processor.

    Returns:
        `str`: What was compared, in a sentence.

    Raises:
        ValueError: If the folder cannot be loaded, if weights differ in any bit, or answers by more than 1e-4.
    """
    found = _load_elsewhere(folder)
    model = load_back.load_model(source) if isinstance(source, (str, Path)) else source
    expected = load_back.fingerprint(model, load_back.load_processor(folder))
    wrong = sorted({name for name, _ in expected.weights.items() ^ found.weights.items()})
    if wrong:
        raise ValueError(f"{len(wrong)} tensors differ between the model and the staged files, such as {wrong[0]}")
    far = {name: _distance(value, found.answers.get(name)) for name, value in expected.answers.items()}
    if max(far.values()) > TOLERANCE:
        raise ValueError(f"answers on a fixed input differ between the model and the staged files: {far}")
    return (
        f"loads without compalign: {len(found.weights)} tensors equal in every bit, answers to {max(far.values()):.0e}"
    )


def _load_elsewhere(folder: str | Path) -> load_back.Fingerprint:
    """Fingerprint of a folder, taken by a fresh process."""
    with tempfile.TemporaryDirectory() as nowhere:
        answers = Path(nowhere, "answers.safetensors")
        done = subprocess.run(
            [sys.executable, "-I", load_back.__file__, str(Path(folder).absolute()), str(answers)],
            cwd=nowhere,
            env={**os.environ, "HF_MODULES_CACHE": str(Path(nowhere, "modules"))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ValueError(f"does not load where compalign is not installed: {done.stderr.strip().splitlines()[-1]}")
        with safe_open(answers, "pt") as file:
            return load_back.Fingerprint(
                json.loads(file.metadata()["weights"]),
                {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
            )


def _distance(expected: torch.Tensor, found: torch.Tensor | None) -> float:
    """Largest difference of two answers; infinite if one is missing, or if they are not NaN in the same places."""
    if found is None or found.shape != expected.shape or not torch.equal(expected.isnan(), found.isnan()):
        return float("inf")
    return (expected.double() - found.double()).nan_to_num().abs().max().item()
