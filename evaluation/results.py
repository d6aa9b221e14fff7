"""What an evaluation leaves behind: scores with everything needed to judge them, as one JSON file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

SCHEMA_VERSION = 1


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

    @property
    def metrics(self) -> dict[str, float]:
        """Every score as a flat dictionary, `"benchmark/score"` to a value in [0, 1]."""
        return {
            f"{benchmark}/{name}": score.value
            for benchmark, result in self.benchmarks.items()
            for name, score in result.scores.items()
        }

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
            ValueError: If the file has another schema version.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if (version := content.pop("schema_version", None)) != SCHEMA_VERSION:
            raise ValueError(f"{path}: schema_version {version}; this release reads {SCHEMA_VERSION}")
        for benchmark in content["benchmarks"].values():
            benchmark["scores"] = {
                name: Score(**score | {"interval": tuple(score["interval"])})
                for name, score in benchmark["scores"].items()
            }
        content["benchmarks"] = {name: BenchmarkResult(**result) for name, result in content["benchmarks"].items()}
        return cls(**content)

    def rows_to_jsonl(self, path: str | Path) -> None:
        """Write the scores of every item, one JSON object a line.

        Args:
            path (`str` or `Path`): File to write, usually `rows.jsonl`.
        """
        with Path(path).open("w", encoding="utf-8") as file:
            for benchmark, result in self.benchmarks.items():
                file.writelines(json.dumps({"benchmark": benchmark, **row}) + "\n" for row in result.rows)
