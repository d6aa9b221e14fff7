"""Serve a page that shows which captions of an image models prefer, and why.

    compalign space
    compalign space --port 7860 --models runs/degla openai/clip-vit-base-patch32 --detector facebook/detr-resnet-50

Needs the extra "space": pip install "compalign[space]". The released models are offered too; visitors may type others.
The same page is the Space on the Hub, from hub_cards/space.
"""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from .. import modeling  # noqa: F401  (makes our model types known to the Auto classes)
from ..trainers.recipe import parse_recipe
from .space_inputs import MOST_BYTES
from .space_models import Library

RELEASED = files("compalign.hub_cards") / "released"


@dataclass
class SpaceArguments:
    """What to offer, and where to serve it."""

    models: list[str] = field(default_factory=list, metadata={"help": "Hub ids or folders of models to offer as well."})
    detector: str | None = field(
        default=None, metadata={"help": "Finds the regions of photographs for ComAlign: a Hub id or a folder."}
    )
    port: int = field(default=7860, metadata={"help": "Port of this machine to serve on."})
    folders: bool = field(default=True, metadata={"help": "Whether visitors may type folders of this machine."})
    most_gigabytes: float | None = field(
        default=None, metadata={"help": "Largest download of a model that a visitor types; default: any."}
    )


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until interrupted."""
    (args,) = parse_recipe(SpaceArguments, arguments=arguments, description=__doc__)
    try:
        import gradio  # noqa: F401  (told of here, before anything is loaded)
    except ImportError as error:
        raise ValueError('gradio is missing; install it with: pip install "compalign[space]"') from error
    from .space_page import CSS, build, theme

    page = build(Library(offered(args.models), args.folders, args.most_gigabytes), args.detector)
    page.launch(
        server_port=args.port,
        max_file_size=MOST_BYTES,
        css=CSS,
        theme=theme(),
        footer_links=[],
        ssr_mode=False,
        run_history=False,
    )


def offered(models: list[str]) -> dict[str, str]:
    """Folder or Hub id of each model on the page, by its name: the released ones, then those given.

    Args:
        models (`list[str]`): Hub ids or folders.

    Returns:
        `dict[str, str]`.

    Raises:
        ValueError: If two have the same name.
    """
    released = sorted(path.parent for path in Path(str(RELEASED)).glob("*/config.json"))
    places = {path.name: str(path) for path in released}
    for model in models:
        name = Path(model).resolve().name if Path(model).is_dir() else model
        if places.setdefault(name, model) != model:
            raise ValueError(f"two models are called {name}: {places[name]} and {model}")
    return places


if __name__ == "__main__":
    main()
