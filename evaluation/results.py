"""Results of an evaluation: the scores and everything needed to judge them, as one JSON file."""

import json
import reprlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 3
Ability = Literal["composition", "recognition"]
HEADLINE_COVERAGE = 0.95  # smallest share of a benchmark's items that makes a score a headline


@strict
@dataclass(repr=False)
class Score:
    """One number, with its interval, chance and blind baselines.

    Args:
        value (`float`): The score, in [0, 1]; ties are misses.
        n (`int`): Number of items, or of queries, behind it.
        interval (`tuple[float, float]`): 95 % bootstrap interval of the value.
        chance (`float`): Expected value of a random guess, in [0, 1].
        tie_rate (`float`, *optional*): Share of ties, for a choice between options.
        half_credit (`float`, *optional*): The value if every tie counts one half, for a choice between options.
        baselines (`dict[str, dict]`): Scores of blind baselines on the same items: by the name of the baseline, its
            `strict`, `half_credit`, `tie_rate` and `n`.
    """

    value: float
    n: int
    interval: tuple[float, float]
    chance: float
    tie_rate: float | None = None
    half_credit: float | None = None
    baselines: dict[str, dict[str, float | int]] = field(default_factory=dict)

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Score({self.value:.3f} [{low:.3f}, {high:.3f}], n={self.n}, chance={self.chance:.3f})"


@strict
@dataclass(repr=False)
class BenchmarkResult:
    """The scores of one model on one benchmark.

    Args:
        suite (`str`): Title of the table that the benchmark belongs to.
        ability (`str`): "composition" or "recognition"; see `Benchmark`.
        columns (`dict[str, str]`): The scores that the table shows, and the column title of each.
        scores (`dict[str, Score]`): All scores by name.
        n_listed (`int`): Items that the benchmark lists.
        n_found (`int`): Items that were scored; fewer than listed where images are missing.
        content_hash (`str`): Hash of the images, texts and comparisons. Results compare only where it is equal.
        notes (`list[str]`): Notes for readers on this run of the benchmark.
        rows (`list[dict]`): Scores of every item. They are written to a file of their own; see `Results.rows_to_jsonl`.
    """

    suite: str
    ability: Ability = field(kw_only=True)
    columns: dict[str, str]
    scores: dict[str, Score]
    n_listed: int
    n_found: int
    content_hash: str
    notes: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list, compare=False)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {self.scores[name].value:.3f}" for name in self.columns if name in self.scores)
        return f"BenchmarkResult({self.suite}, {self.ability}, {self.n_found} of {self.n_listed} items: {shown})"

    @property
    def covered(self) -> bool:
        """Whether enough items were scored for a headline: a random subset of the items is another benchmark."""
        return self.n_found >= HEADLINE_COVERAGE * self.n_listed

    def headline(self, name: str) -> Score | None:
        """Return a score as a table may print it.

        Args:
            name (`str`): Name of the score.

        Returns:
            `Score`, or `None` if there is no score of this name or too few of the benchmark's items were scored.
        """
        return self.scores.get(name) if self.covered else None


@strict
@dataclass(repr=False)
class Results:
    """The scores of one model, with the settings that change them.

    Args:
        model (`str`): Name of the model.
        benchmarks (`dict[str, BenchmarkResult]`): Result of each benchmark by its name.
        activation (`dict[str, str]`): Activation function of the `text` and the `vision` tower. A checkpoint that was
            trained with QuickGELU and is scored with GELU loses several points.
        dtype (`str`): Data type of the forward passes. Scores are float32 or float64.
        preprocessing (`dict`): Under `image`, resizing, cropping and normalising; under `text`, padding and truncation,
            or how a model that answers in words was asked.
        encoded (`dict[str, int]`): Images and texts requested and encoded, batches, and texts that were truncated.
        versions (`dict[str, str]`): Versions of the libraries.
        seconds (`float`): Wall time, in seconds.
        created (`str`): Time of the evaluation, ISO 8601, UTC.
        stage_seconds (`dict[str, float]`): Wall time per stage, in seconds.
        model_revision (`str`, *optional*): Commit of the model on the Hub; `None` for a folder.
        commit (`str`, *optional*): Commit of the repository in which the evaluation was started, if it was in one.
        hardware (`dict[str, str | int]`): See `provenance.hardware`.
        notes (`list[str]`): Notes for readers on the model as it was evaluated.
    """

    model: str
    benchmarks: dict[str, BenchmarkResult]
    activation: dict[str, str]
    dtype: str
    preprocessing: dict
    encoded: dict[str, int]
    versions: dict[str, str]
    seconds: float
    created: str
    stage_seconds: dict[str, float] = field(default_factory=dict)
    model_revision: str | None = None
    commit: str | None = None
    hardware: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        shown = []
        for benchmark, result in self.benchmarks.items():
            names = [name for name in result.columns if name in result.scores]
            # The last column of a benchmark is its mean, where it has one.
            shown += [f"{benchmark} {names[-1]} {result.scores[names[-1]].value:.3f}"] if names else [benchmark]
        return f"Results({self.model}: {', '.join(shown)})"

    @property
    def metrics(self) -> dict[str, float]:
        """Every score as a flat dictionary: `"benchmark/score"` to a value in [0, 1]."""
        return {
            f"{benchmark}/{name}": score.value
            for benchmark, result in self.benchmarks.items()
            for name, score in result.scores.items()
        }

    def find(self, key: str) -> Score:
        """Return a score by its key in `metrics`.

        Args:
            key (`str`): `"benchmark/score"`, such as `"sugarcrepe/swap_att"`.

        Returns:
            `Score`

        Raises:
            ValueError: If there is no such score.
        """
        benchmark, _, name = key.partition("/")
        if key not in self.metrics:
            near = self.benchmarks[benchmark].scores if benchmark in self.benchmarks else self.benchmarks
            raise ValueError(f"{self.model} has no score {key!r}; there are {', '.join(near) or 'no benchmarks'}")
        return self.benchmarks[benchmark].scores[name]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the scores as a table of pandas.

        Returns:
            `pandas.DataFrame`: One row per score, with the columns `benchmark`, `score`, `value`, `interval`, `chance`,
            `ties` (NaN where a score has no tie rate), `n` and `ability`.
        """
        import pandas

        rows = [
            (name, key, score.value, score.interval, score.chance, score.tie_rate, score.n, result.ability)
            for name, result in self.benchmarks.items()
            for key, score in result.scores.items()
        ]
        columns = ["benchmark", "score", "value", "interval", "chance", "ties", "n", "ability"]
        return pandas.DataFrame(rows, columns=columns).astype({"ties": float})

    def to_json(self, path: str | Path) -> None:
        """Write everything except the rows to a JSON file.

        Args:
            path (`str` or `Path`): File to write, usually `results.json`.
        """
        content = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        for benchmark in content["benchmarks"].values():
            del benchmark["rows"]
        Path(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> "Results":
        """Read a file written by `to_json`.

        Args:
            path (`str` or `Path`): File to read.

        Returns:
            `Results` without rows.

        Raises:
            ValueError: If the file is not JSON, has another schema version, lacks a field or has an unknown one, or a
                value has the wrong type or is out of its range.
        """
        try:
            # Python reads NaN and infinities; as texts they are refused where a number belongs.
            content = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=str)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error})") from error
        version = content.pop("schema_version", None) if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path}: schema_version {version}; this release reads {SCHEMA_VERSION}")
        results = _read(cls, content, str(path))
        for benchmark, result in results.benchmarks.items():
            for name, score in result.scores.items():
                outside = [share for share in (score.value, *score.interval, score.chance) if not 0 <= share <= 1]
                if outside:
                    raise ValueError(f"{path}: {benchmark}/{name}: {outside[0]}; must be in [0, 1]")
        return results

    def rows_to_jsonl(self, path: str | Path) -> None:
        """Write the scores of every item, one JSON object per line.

        A row names the file of its image as `image`, or those of its images as `images`; an image in memory, such as a
        generated scene, has no file and its name is null.

        Args:
            path (`str` or `Path`): File to write, usually `rows.jsonl`.
        """
        with Path(path).open("w", encoding="utf-8") as file:
            for benchmark, result in self.benchmarks.items():
                file.writelines(json.dumps({"benchmark": benchmark, **row}) + "\n" for row in result.rows)


def _read(kind: type, content: Any, where: str) -> Any:
    """Build a strict dataclass, and those inside it, from a JSON object; an error names the place."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: {reprlib.repr(content)}; must be an object")
    for name, part in (("benchmarks", BenchmarkResult), ("scores", Score)):
        if isinstance(content.get(name), dict):
            content[name] = {key: _read(part, value, f"{where}: {name}: {key}") for key, value in content[name].items()}
    if isinstance(content.get("interval"), list):
        content["interval"] = tuple(content["interval"])
    try:
        return kind(**content)
    except StrictDataclassError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the innermost one names the entry of a list or a dictionary
            cause = cause.__cause__
        raise ValueError(f"{where}: {cause}") from error
    except TypeError as error:
        accepted = ", ".join(known.name for known in fields(kind))
        raise ValueError(f"{where}: {error}; accepted: {accepted}") from error
