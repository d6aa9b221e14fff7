"""Put the table of the last demo into the README: no figure there is typed by hand.

python -m compalign.scripts.update_readme demo/table.md README.md
"""

import re
import sys
from pathlib import Path

MARKED = re.compile(r"(<!-- demo table -->\n).*?(<!-- end of demo table -->)", flags=re.DOTALL)


def with_table(readme: str, table: str) -> str:
    """The README's text with the table between its two marks.

    Raises:
        ValueError: If the marks are missing.
    """
    if not MARKED.search(readme):
        raise ValueError("the README has no '<!-- demo table -->' ... '<!-- end of demo table -->'")
    return MARKED.sub(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", readme)


def main(table: str, readme: str) -> None:
    """Rewrite the README in place."""
    text = with_table(Path(readme).read_text(encoding="utf-8"), Path(table).read_text(encoding="utf-8"))
    Path(readme).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
