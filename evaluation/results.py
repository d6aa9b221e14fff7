"""What an evaluation leaves behind: scores with everything needed to judge them, as one JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .schema import read_record

SCHEMA_VERSION = 2
HEADLINE_COVERAGE = 0.95  # smallest share of a benchmark's items behind a number that stands for the benchmark


@dataclass
class Score:
    """One number and what must be printed beside it.

    Args:
        value (`float`): The score, in [0, 1]; ties are misses.
        n (`int`): Number of items, or of queries, behind it.
        interval (`tuple[float, float]`): 95 % bootstrap interval of the value.
        chance (`float`): Expected value of a random guess, in [0, 1].
        tie_rate (`float`, optional): Share of ties, for a choice between captions.
        half_credit (`float`, optional): The value with every tie worth one half, for a choice between captions.
        baselines (`dict[str, dict]`): What models that never see the image reach on the same items: by name of the
            baseline, its `strict`, `half_credit`, `tie_rate` and `n`.
    """

    value: float
    n: int
    interval: tuple[float, float]
    chance: float
    tie_rate: float | None = None
    half_credit: float | None = None
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class BenchmarkResult:
    """The scores of one model on one benchmark.

    Args:
        suite (`str`): Title of the table that the benchmark belongs to.
        columns (`dict[str, str]`): The scores that the table shows and the column title of each.
        scores (`dict[str, Score]`): All scores by name.
        n_listed (`int`): Items that the benchmark lists.
        n_found (`int`): Items that were scored; fewer where images are missing.
        content_hash (`str`): Hash of the images, texts and comparisons: results compare only where it is equal.
        notes (`list[str]`): What a reader must know about this run of the benchmark.
        rows (`list[dict]`): Scores of every item. They go to their own file, see `Results.rows_to_jsonl`.
    """

    suite: str
    columns: dict[str, str]
    scores: dict[str, Score]
    n_listed: int
    n_found: int
    content_hash: str
    notes: list[str] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list, compare=False, repr=False)

    @property
    def covered(self) -> bool:
        """Whether enough items were scored for a headline; a chance subset of the items is another benchmark."""
        return self.n_found >= HEADLINE_COVERAGE * self.n_listed

    def headline(self, name: str) -> Score | None:
        """Return a score as a table may print it.

        Args:
            name (`str`): Name of the score.

        Returns:
            `Score`, or `None` if there is none of this name or too few of the benchmark's items were scored.
        """
        return self.scores.get(name) if self.covered else None


@dataclass
class Results:
    """The scores of one model, with the settings that change them.

    Args:
        model (`str`): Name of the model.
        benchmarks (`dict[str, BenchmarkResult]`): Result of each benchmark by its name.
        activation (`dict[str, str]`): Activation function of the `text` and the `vision` tower. A checkpoint scored
            with GELU in the place of QuickGELU loses several points.
        dtype (`str`): Data type of the forward passes; scores are always float32.
        preprocessing (`dict`): Resizing, cropping and normalising of images, padding and truncation of texts.
        encoded (`dict[str, int]`): References asked for and encoded, batches, and texts that were truncated.
        versions (`dict[str, str]`): Versions of the libraries.
        seconds (`float`): Wall time, in seconds.
        created (`str`): Time of the evaluation, ISO 8601, UTC.
        stage_seconds (`dict[str, float]`): Wall time of each stage, in seconds.
        model_revision (`str`, optional): Commit of the model on the Hub; none for a folder.
        commit (`str`, optional): Commit of the repository from which the evaluation was started, if any.
        hardware (`dict[str, str | int]`): What `provenance.hardware` says.
        notes (`list[str]`): What a reader must know about the model as it was evaluated.
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

    @property
    def metrics(self) -> dict[str, float]:
        """Every score as a flat dictionary, `"benchmark/score"` to a value in [0, 1]."""
        return {
            f"{benchmark}/{name}": score.value
            for benchmark, result in self.benchmarks.items()
            for name, score in result.scores.items()
        }

    def find(self, key: str) -> Score:
        """Return a score by the key that `metrics` has.

        Args:
            key (`str`): `"benchmark/score"`, such as `"sugarcrepe/swap_att"`.

        Raises:
            ValueError: If there is no such score.
        """
        benchmark, _, name = key.partition("/")
        if key not in self.metrics:
            near = self.benchmarks[benchmark].scores if benchmark in self.benchmarks else self.benchmarks
            raise ValueError(f"{self.model} has no score {key!r}; there are {', '.join(near) or 'none'}")
        return self.benchmarks[benchmark].scores[name]

    def to_json(self, path: str | Path) -> None:
        """Write everything but the rows to a JSON file.

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
            ValueError: If the file is no JSON, has another schema version, lacks a field or has an unknown one, or a
                value is not of its kind or out of its range.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error})") from error
        version = content.pop("schema_version", None) if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"{path}: schema_version {version}; this release reads {SCHEMA_VERSION}")
        results = read_record(cls, content, str(path))
        for benchmark, result in results.benchmarks.items():
            for name, score in result.scores.items():
                outside = [share for share in (score.value, *score.interval, score.chance) if not 0 <= share <= 1]
                if outside:
                    raise ValueError(f"{path}: {benchmark}/{name}: {outside[0]}; must be in [0, 1]")
        return results

    def rows_to_jsonl(self, path: str | Path) -> None:
        """Write the scores of every item, one JSON object a line.

        Args:
            path (`str` or `Path`): File to write, usually `rows.jsonl`.
        """
        with Path(path).open("w", encoding="utf-8") as file:
            for benchmark, result in self.benchmarks.items():
                file.writelines(json.dumps({"benchmark": benchmark, **row}) + "\n" for row in result.rows)
