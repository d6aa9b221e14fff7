"""The work of `compalign convert`: the route from the layout of the source to the other layout."""

from ...modeling.conversion import open_checkpoint, recognise
from . import clip, comalign, llava
from .arguments import ConvertArguments

# By layout of the source: what writes transformers' layout of it, and what writes the layout of the authors' code.
ROUTES = {
    "open_clip": (clip.to_transformers, None),
    "transformers_clip": (clip.to_transformers, clip.to_original),
    "llava": (llava.to_transformers, None),
    "transformers_llava": (None, llava.to_original),
    "comalign": (comalign.to_transformers, None),
    "transformers_comalign": (None, comalign.to_original),
}


def convert(args: ConvertArguments) -> None:
    """Look at the source, choose the conversion, run it.

    Raises:
        ValueError: If the source is in the wanted layout already, or something about it is unknown.
    """
    source = open_checkpoint(args.source)
    layout = recognise(source.places)
    print(f"{args.source}: {len(source.places)} tensors in the layout {layout.name}, by {layout.seen!r}")
    write = ROUTES[layout.name][args.original]
    if write is None:
        wanted = "--original" if args.original else "without --original"
        raise ValueError(f"{wanted}: {args.source} is in that layout already ({layout.name})")
    write(args, source, layout)
