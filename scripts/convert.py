"""Convert checkpoints from the layouts of the papers' own code to that of transformers, and back.

    compalign convert --source epoch_5.pt --kind degla_clip --activation quick_gelu --output_dir degla
    compalign convert --source llava-v1.5-7b --vision_tower clip-vit-large-patch14-336 --output_dir llava
    compalign convert --source ComAlign-CLIP-VIT-B32.pt --output_dir comalign
    compalign convert --source degla --original --output_dir for_authors_code

Pickles are read as weights alone; nothing in them is run. Large checkpoints pass through memory one shard at a time.
conversion.json, in the output folder, records the source and every decision.
"""

from ..trainers.launch.recipe import parse_recipe
from .conversion.arguments import ConvertArguments


def main(arguments: list[str] | None = None) -> None:
    """Look at the source, choose the conversion, run it."""
    (args,) = parse_recipe(ConvertArguments, arguments=arguments, description=__doc__, command="compalign convert")
    if args.folder.exists() and any(args.folder.iterdir()):
        raise ValueError(f"output_dir={args.output_dir} is not empty")
    from .conversion.routes import convert

    convert(args)
