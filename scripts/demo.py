"""Fine-tune the small base model with NegCLIP, CE-CLIP and DeGLA, and compare the four models.

    compalign demo

All data is generated: nothing is downloaded. The output folder gets each model with its card and results.json, one
table and one chart. `--readme README.md` also puts the table into that file, between its two marks.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.launch.recipe import parse_recipe
from .scenes.choice import TrainingChoice

if TYPE_CHECKING:
    from ..evaluation import Results

TABLE = "table.md"
MARKED = re.compile(r"(<!-- demo table -->\n).*?(<!-- end of demo table -->)", flags=re.DOTALL)


@dataclass
class DemoArguments(TrainingChoice):
    """The amount of work and the output; the recipes of the methods are scripts/recipes/scenes_<method>.yaml."""

    output_dir: str = field(
        default="demo", metadata={"help": "Folder of the models, cards, results and the chart.", "group": "output"}
    )
    readme: str | None = field(
        default=None, metadata={"help": "Text file whose demo table is replaced by this one.", "group": "output"}
    )


def main(arguments: list[str] | None = None) -> "list[Results]":
    """Evaluate the base model, fine-tune and evaluate it with each method, report."""
    (args,) = parse_recipe(DemoArguments, arguments=arguments, description=__doc__, command="compalign demo")
    if args.readme is not None:
        with_table(args.readme, "")  # missing marks are said before the training, not after it
    from .scenes.fine_tuning import compare_methods

    folder = Path(args.output_dir)
    results = compare_methods(args, folder)
    if args.readme is not None:
        text = with_table(args.readme, (folder / TABLE).read_text(encoding="utf-8"))
        Path(args.readme).write_text(text, encoding="utf-8")
        print(f"the table of {args.readme} is replaced")
    return results


def with_table(readme: str | Path, table: str) -> str:
    """Return the text of a file with the table between its two marks.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the marks are missing.
    """
    text = Path(readme).read_text(encoding="utf-8")
    if not MARKED.search(text):
        raise ValueError(f"{readme} has no lines '<!-- demo table -->' and '<!-- end of demo table -->'")
    return MARKED.sub(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text)
