"""The `compalign` command: one module a subcommand, imported only when it is called."""

import importlib
import sys

COMMANDS = {
    "demo": "fine-tune NegCLIP, CE-CLIP and DeGLA from the small base model and compare them",
    "benchmark": "measure what the fast paths gain on this machine",
    "compare": "set results beside one another, the papers and the map; mix two models",
    "components": "take images and captions apart into entities and relations",
    "convert": "convert checkpoints between the papers' layouts and transformers",
    "evaluate": "evaluate models on benchmarks",
    "negatives": "propose hard negative captions for a caption file",
    "publish": "publish a model or an adapter on the Hub",
    "score": "score captions of an image with any model, and show what the scores rest on",
    "space": "serve a page that compares models on an image and its captions",
    "tokens": "show what an image adds to each token of a text",
}


def usage() -> str:
    """What `compalign --help` prints."""
    lines = [f"  {name:<12}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: compalign COMMAND [--config recipe.yaml] [--flag value ...]", "", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; user errors end with their message and status 2, not with a traceback."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command not in COMMANDS:
        print(f"compalign: unknown command {command!r}; accepted: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        importlib.import_module(f"compalign.scripts.{command}").main(rest)
    except (ValueError, FileNotFoundError, ConnectionError) as error:
        print(f"compalign {command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
