"""Convert checkpoints between the layouts of the papers' own code and transformers, both ways.

    compalign convert --source epoch_5.pt --kind degla_clip --activation quick_gelu --output_dir degla
    compalign convert --source degla --to open_clip --output_dir released
    compalign convert --source llava-v1.5-7b --vision_tower clip-vit-large-patch14-336 --output_dir llava
    compalign convert --source ComAlign-CLIP-VIT-B32.pt --output_dir comalign

Pickles are read as weights alone, without running what they name. Large checkpoints pass through memory one shard at a
time. Beside the result, conversion.json says what it was made from and what was decided.
"""

from ..modeling.conversion import open_checkpoint, recognise
from ..trainers.recipe import parse_recipe
from . import convert_clip, convert_comalign, convert_llava
from .convert_common import ConvertArguments

# By layout of the source: what makes transformers' layout of it, and what makes the original code's.
ROUTES = {
    "open_clip": (convert_clip.to_transformers, None),
    "transformers_clip": (convert_clip.to_transformers, convert_clip.to_open_clip),
    "llava": (convert_llava.to_transformers, None),
    "transformers_llava": (None, convert_llava.to_released),
    "comalign": (convert_comalign.to_transformers, None),
    "transformers_comalign": (None, convert_comalign.to_released),
}


def main(arguments: list[str] | None = None) -> None:
    """Look at the source, choose the conversion, run it."""
    (args,) = parse_recipe(ConvertArguments, arguments=arguments, description=__doc__)
    if args.folder.exists() and any(args.folder.iterdir()):
        raise ValueError(f"output_dir={args.output_dir} is not empty")
    source = open_checkpoint(args.source)
    layout = recognise(source.places)
    print(f"{args.source}: {len(source.places)} tensors in the layout {layout.name}, by {layout.seen!r}")
    convert = ROUTES[layout.name][args.to != "transformers"]
    if convert is None:
        raise ValueError(f"to={args.to}: {args.source} is in that layout already ({layout.name})")
    convert(args, source, layout)
