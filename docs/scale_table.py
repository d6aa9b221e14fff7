"""Train every trainer with every kind of model under every engine, and write the tables of docs/scale.md.

python docs/scale_table.py

Two processes run on the CPU; it takes about ten minutes. What came of each training is kept in docs/scale_table.json,
of which the tables are made. The exit status is 1 if a training failed.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from subprocess import PIPE, STDOUT
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from launch import REPOSITORY, TWO_PROCESSES
from run_cells import ENGINES, LINES, PRECISIONS

from compalign.data.provenance import versions
from compalign.scripts.demo import with_tables

PROGRAM = REPOSITORY / "tests" / "support" / "run_cells.py"
PAGE, KEPT = REPOSITORY / "docs" / "scale.md", REPOSITORY / "docs" / "scale_table.json"
MARK = "engines"
LIBRARIES = ("torch", "transformers", "accelerate", "deepspeed")
VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SECONDS = 1800  # of a launch
ALONE = next(iter(ENGINES))  # what the other engines are compared with
EQUAL = 1e-4  # largest relative difference of losses that are called equal
DIED = {"fails": "a process ended or hung without a word"}

Line = tuple[str, str]  # trainer and model
Outcome = dict[str, Any]  # with one of the keys "losses", "refused" and "fails"
Outcomes = dict[tuple[str, ...], Outcome]  # by precision, engine, trainer and model


def main() -> int:
    """Measure all, keep it, write the tables; return the exit status."""
    outcomes: Outcomes = {}
    for precision in PRECISIONS:
        for engine in ENGINES:
            print(f"{engine}, {precision}", flush=True)
            outcomes |= measure(engine, precision, LINES)
    used = versions(*LIBRARIES)
    KEPT.write_text(as_json(outcomes, used), encoding="utf-8")
    PAGE.write_text(with_tables(PAGE, {MARK: tables(outcomes, used)}), encoding="utf-8")
    failed = [": ".join([", ".join(cell), found["fails"]]) for cell, found in outcomes.items() if "fails" in found]
    print("\n".join(failed) or f"the tables of {PAGE} are replaced")
    return 1 if failed else 0


# Measurements


def measure(engine: str, precision: str, lines: Sequence[Line]) -> Outcomes:
    """Train all lines in one launch; after a line that fails, the others in another one.

    Args:
        engine, precision (`str`): Keys of `ENGINES` and `PRECISIONS`.
        lines (sequence of `tuple[str, str]`): Some of `LINES`.
    """
    outcomes: Outcomes = {}
    waiting = [*lines]
    while waiting:
        found = launch(engine, precision, waiting) or [DIED]
        outcomes |= {(precision, engine, *line): outcome for line, outcome in zip(waiting, found, strict=False)}
        waiting = waiting[len(found) :]
    return outcomes


def launch(engine: str, precision: str, lines: Sequence[Line]) -> list[Outcome]:
    """Start the processes of an engine; return the outcomes of the first lines, up to one that fails.

    If a process dies, what it wrote is printed.
    """
    processes = ENGINES[engine].processes
    with tempfile.TemporaryDirectory() as folder:
        program = [str(PROGRAM), engine, precision, folder, json.dumps(lines)]
        command = [sys.executable, *(TWO_PROCESSES if processes > 1 else ()), *program]
        try:
            subprocess.run(command, env=os.environ | VARIABLES, stdout=PIPE, stderr=STDOUT, timeout=SECONDS, check=True)
        except subprocess.SubprocessError as error:
            print(error.stdout.decode(errors="replace")[-8000:] if error.stdout else error)
        ranks = [Path(folder, f"rank{rank}.jsonl") for rank in range(processes)]
        noted = [list(map(json.loads, rank.read_text().splitlines())) if rank.exists() else [] for rank in ranks]
    found = [_joined([own[place] for own in noted if place < len(own)], processes) for place in range(len(lines))]
    return found[: found.index(None)] if None in found else found


def _joined(outcomes: Sequence[Outcome], processes: int) -> Outcome | None:
    """The outcome of a line: the first failure of a process, or what all agree on; None if one is missing."""
    if failures := [outcome for outcome in outcomes if "fails" in outcome]:
        return {"fails": min(failures, key=lambda outcome: outcome["ended"])["fails"]}
    if len(outcomes) < processes:
        return None
    found = [{key: outcome[key] for key in ("losses", "refused") if key in outcome} for outcome in outcomes]
    return found[0] if all(other.keys() == found[0].keys() for other in found) else {"fails": "one process refused"}


# Kept results


def as_json(outcomes: Outcomes, used: Mapping[str, str]) -> str:
    """Lay out outcomes and versions of libraries, one outcome per line."""
    rows = [json.dumps([*cell, outcome], ensure_ascii=False) for cell, outcome in outcomes.items()]
    return f'{{"versions": {json.dumps(used)},\n"outcomes": [\n' + ",\n".join(rows) + "\n]}\n"


def read_kept() -> tuple[Outcomes, dict[str, str]]:
    """Return the outcomes that docs/scale_table.json keeps, and the versions of the libraries."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    return {tuple(cell): outcome for *cell, outcome in kept["outcomes"]}, kept["versions"]


# Tables


def tables(outcomes: Outcomes, used: Mapping[str, str]) -> str:
    """Lay out a table per precision, the sentences that they refer to, and what they were measured with."""
    notes: dict[str, str] = {}  # letter by sentence
    parts = []
    for precision in PRECISIONS:
        rows = [["trainer", "model", *ENGINES], ["---"] * (2 + len(ENGINES))]
        for line in LINES:
            cells = [outcomes[(precision, engine, *line)] for engine in ENGINES]
            rows.append([*line, *(describe(cell, cells[0], notes) for cell in cells)])
        parts.append(f"In {precision}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    parts += [f"- ({letter}) {sentence}" for sentence, letter in notes.items()]
    libraries = ", ".join(f"{name} {version}" for name, version in used.items())
    parts.append(f"Measured with {libraries}, on CPUs over gloo.")
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("|\n- ", "|\n\n- ")


def describe(outcome: Outcome, alone: Outcome, notes: dict[str, str]) -> str:
    """Say in a word what came of a training.

    Args:
        outcome (`dict`): The training.
        alone (`dict`): The same training in one process.
        notes (`dict`): Letters of the sentences that words refer to; a new one is added.
    """
    if "losses" in outcome:
        if outcome is alone or "losses" not in alone:
            return "runs"
        difference = largest_difference(outcome["losses"], alone["losses"])
        return "equal" if difference <= EQUAL else f"runs, {100 * difference:.2g}%"
    word = "refused" if "refused" in outcome else "**fails**"
    sentence = outcome.get("refused") or outcome["fails"]
    sentence = sentence.splitlines()[0].split(". ")[0].rstrip(".")
    return f"{word} ({notes.setdefault(sentence, ascii_lowercase[len(notes)])})"


def largest_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest difference of a step's loss, as a share of the expected one."""
    return max(abs(loss / other - 1) for loss, other in zip(losses, expected, strict=True))


if __name__ == "__main__":
    sys.exit(main())
