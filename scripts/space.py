"""Serve a page that shows which captions of an image models prefer, and why.

    compalign space
    compalign space --port 7860 --models runs/degla openai/clip-vit-base-patch32 --detector facebook/detr-resnet-50

The page offers the small models that come with compalign and those of --models; visitors may type others. It needs
gradio: pip install "compalign[space]". hub_cards/space holds the same page for the Hub.
"""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

from ..trainers.launch.recipe import parse_recipe

RELEASED = files("compalign.hub_cards") / "released"


@dataclass
class SpaceArguments:
    """The models to offer, and the port to serve on."""

    GROUP: ClassVar[str] = "what to do"

    models: list[str] = field(
        default_factory=list, metadata={"help": "Hub ids or folders of further models to offer.", "group": "model"}
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of the detector that finds the regions of photographs for ComAlign.",
            "group": "model",
        },
    )
    port: int = field(default=7860, metadata={"help": "Port of this machine to serve on."})
    folders: bool = field(default=True, metadata={"help": "Whether visitors may name folders of this machine."})
    most_gigabytes: float | None = field(
        default=None, metadata={"help": "Largest download of a model that a visitor names. By default any size."}
    )


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until interrupted."""
    (args,) = parse_recipe(SpaceArguments, arguments=arguments, description=__doc__, command="compalign space")
    try:
        import gradio  # noqa: F401  (missing, it is named before models are loaded)
    except ImportError as error:
        raise ValueError('gradio is missing; install it with: pip install "compalign[space]"') from error
    from .page.inputs import MOST_BYTES
    from .page.layout import CSS, build, theme
    from .page.models import Library

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
    """Find the models of the page: those that come with compalign, then those given.

    Args:
        models (`list[str]`): Hub ids or folders.

    Returns:
        `dict[str, str]`: Folder or Hub id by name.

    Raises:
        ValueError: If two models have the same name.
    """
    from ..modeling.kinds import name_of

    released = sorted(path.parent for path in Path(str(RELEASED)).glob("*/config.json"))
    places = {path.name: str(path) for path in released}
    for model in models:
        name = name_of(model)
        if places.setdefault(name, model) != model:
            raise ValueError(f"two models are called {name}: {places[name]} and {model}")
    return places


if __name__ == "__main__":
    main()
