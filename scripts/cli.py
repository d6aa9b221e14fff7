"""The `compalign` command: one module per subcommand, imported only when it is called."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

# In the order in which a user meets them.
COMMANDS = {
    "demo": "fine-tune a small model with NegCLIP, CE-CLIP and DeGLA and compare the results",
    "train": "train a model with NegCLIP, CE-CLIP, DeGLA, ComAlign or CAL",
    "evaluate": "evaluate models on benchmarks, side by side",
    "compare": "set results beside each other, the papers and the map; mix two models",
    "score": "score captions of an image with any model",
    "tokens": "show how much an image adds to each token of a text",
    "components": "find the entities and relations of images and captions, for ComAlign",
    "negatives": "propose hard negative captions for a caption file",
    "convert": "convert checkpoints between the papers' layouts and transformers",
    "merge": "merge an adapter into its base model",
    "publish": "publish a model or an adapter on the Hub",
    "space": "serve a web page that compares models on an image and its captions",
    "speed": "measure the fast paths against the plain ones on this machine",
    "scenes": "make and compare the small models of the generated world",
    "lmms": "run lmms-eval on a model trained with CAL",
}
HELP = ("-h", "--help")


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; user errors end with one line and status 2, not with a traceback."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in HELP:
        usage = "usage: compalign COMMAND [--config recipe.yaml] [--flag value ...]\n       compalign --version"
        print(f"{usage}\n\n{listing(COMMANDS)}\n\n`compalign COMMAND --help` explains a command.")
        return 0
    if command == "--version":
        print(f"compalign {version('compalign')}")
        return 0
    if command not in COMMANDS:
        print(f"compalign: {unknown('command', command, COMMANDS)}", file=sys.stderr)
        return 2
    from ..trainers.launch.recipe import exit_status

    return exit_status(
        f"compalign {command}", lambda: importlib.import_module(f"compalign.scripts.{command}").main(rest)
    )


def choose(
    command: str, kind: str, entries: Mapping[str, str], about: str | None, arguments: Sequence[str] | None
) -> tuple[str, list[str]]:
    """Take the first word after a command as one of its entries, and explain them where that is asked for.

    Args:
        command (`str`): The command, such as `compalign train`.
        kind (`str`): What an entry is, such as "method".
        entries (mapping of `str` to `str`): The entries with a sentence each.
        about (`str`, *optional*): What the help says first.
        arguments (sequence of `str`, *optional*): The words after the command; default: this process's.

    Returns:
        `tuple[str, list[str]]`: the entry, and the words after it.

    Raises:
        ValueError: If there is no such entry.
    """
    word, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if word in HELP:
        print(f"usage: {command} {kind.upper()} [--config recipe.yaml] [--flag value ...]\n\n{(about or '').strip()}\n")
        print(f"{kind}s:\n{listing(entries)}\n\n`{command} {kind.upper()} --help` explains the flags of a {kind}.")
        raise SystemExit(0)
    if word not in entries:
        raise ValueError(unknown(kind, word, entries))
    return word, rest


def listing(entries: Mapping[str, str]) -> str:
    """Lay out names with their sentences, one per line."""
    width = 2 + max(map(len, entries))
    return "\n".join(f"  {name:<{width}}{sentence}" for name, sentence in entries.items())


def unknown(kind: str, name: str, accepted: Iterable[str]) -> str:
    """Say that a name is unknown, which one is nearest, and which ones there are."""
    accepted = list(accepted)
    nearest = difflib.get_close_matches(name, accepted, n=1, cutoff=0.0)[0]
    return f"unknown {kind} {name!r}; the nearest is {nearest!r}; accepted: {', '.join(accepted)}"


if __name__ == "__main__":
    sys.exit(main())
