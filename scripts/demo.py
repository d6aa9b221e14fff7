"""Train the small base model with NegCLIP, CE-CLIP, DeGLA and ComAlign, and compare the five models.

    compalign demo

All data is generated: nothing is downloaded. The output folder gets each model with its card and results.json, one
table, one chart, and index.html, a page with the test items and what each model chose. `--readme README.md` also puts
the tables into that file, between their marks, and the chart at docs/images/demo.png beside it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe
from .scenes.choice import CHART, TrainingChoice

if TYPE_CHECKING:
    from ..evaluation import Results

TABLE, PICTURE = "table.md", Path("docs", "images", "demo.png")
MARKS = ("demo summary", "demo table")
# The first screen of a README has room for few columns: a title, a benchmark and its score.
SUMMARY = (
    ("swapped objects", "scenes_composition", "swap_object"),
    ("swapped attributes", "scenes_composition", "swap_attribute"),
    ("all seven kinds", "scenes_composition", "all_macro"),
    ("recognition", "scenes_zero_shot", "top1"),
)


@dataclass
class DemoArguments(TrainingChoice):
    """The amount of work and the output; the recipes of the methods are scripts/recipes/scenes_<method>.yaml."""

    output_dir: str = field(
        default="demo", metadata={"help": "Folder of the models, cards, results, chart and page.", "group": "output"}
    )
    readme: str | None = field(
        default=None, metadata={"help": "Text file whose demo tables are replaced by these.", "group": "output"}
    )


def main(arguments: list[str] | None = None) -> "list[Results]":
    """Evaluate the base model, train and evaluate each method, report."""
    (args,) = parse_recipe(DemoArguments, arguments=arguments, description=__doc__, command="compalign demo")
    if args.readme is not None:
        with_tables(args.readme, dict.fromkeys(MARKS, ""))  # missing marks are said before the training, not after it
    from .scenes.compare_methods import compare_methods

    folder = Path(args.output_dir)
    results = compare_methods(args, folder)
    if args.readme is not None:
        tables = dict(zip(MARKS, (summary(results), (folder / TABLE).read_text(encoding="utf-8")), strict=True))
        text = with_tables(args.readme, tables)
        Path(args.readme).write_text(text, encoding="utf-8")
        picture = Path(args.readme).parent / PICTURE
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / CHART, picture)
        print(f"the tables of {args.readme} and {picture} are replaced")
    return results


def summary(results: "list[Results]") -> str:
    """Lay out few scores of each model, in percent, with their change from the first model in points."""
    from ..evaluation.report import markdown

    first = [results[0].benchmarks[benchmark].scores[name].value for _, benchmark, name in SUMMARY]
    rows = [["%", *(title for title, *_ in SUMMARY)]]
    for model in results:
        values = [model.benchmarks[benchmark].scores[name].value for _, benchmark, name in SUMMARY]
        changes = [f" ({100 * (value - before):+.1f})" for value, before in zip(values, first, strict=True)]
        shown = [""] * len(changes) if model is results[0] else changes
        rows.append([model.model, *(f"{100 * value:.1f}{change}" for value, change in zip(values, shown, strict=True))])
    return markdown(rows)


def with_tables(readme: str | Path, tables: Mapping[str, str]) -> str:
    """Return the text of a file with each table between its two marks.

    Args:
        readme (`str` or `Path`): The file.
        tables (mapping of `str` to `str`): Table by mark; the mark "x" stands in the file as `<!-- x -->` before the
            table and `<!-- end of x -->` after it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If marks are missing.
    """
    text = Path(readme).read_text(encoding="utf-8")
    for mark, table in tables.items():
        start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{readme} has no lines {start!r} and {end!r}")
        text = f"{before}{start}\n\n{table.strip()}\n\n{end}{after}"
    return text
