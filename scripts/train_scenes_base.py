"""Train the small base model from scratch on web-like captions of generated scenes.

    python -m compalign.scripts.train_scenes_base --config scripts/recipes/scenes_base.yaml

Plain contrastive loss, no hard negatives: like real CLIP it recognises things and hardly understands composition.
The folder it writes loads with `AutoModel.from_pretrained` and `AutoProcessor.from_pretrained`.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer, set_seed

from ..data.scenes import WebSceneDataset, full_caption, generate_scene, web_caption
from ..data.tokenization import train_clip_tokenizer
from ..evaluation import table
from ..trainers import NegCLIPArguments, NegCLIPTrainer
from ..trainers.recipe import parse_recipe
from .demo import TrainingChoice, document, dual_encoder_benchmarks, evaluate_saved

CONTEXT_LENGTH = 64
VOCABULARY = 700  # more than there are merges: every word of the world becomes one token
PIXEL_MEAN, PIXEL_STD = [0.6, 0.6, 0.6], [0.3, 0.3, 0.3]
TOKENIZER_CAPTIONS = 5000
POSITION_STD = 0.3


@dataclass
class BaseArguments:
    """The shape of the model and the size of its world."""

    scenes: int = field(default=500_000, metadata={"help": "Distinct training scenes."})
    dense: int = field(default=0, metadata={"help": "So many first rows have full captions: an easy start."})
    image_size: int = field(default=64, metadata={"help": "Side of the images in pixels."})
    patch_size: int = field(default=8, metadata={"help": "Side of a patch in pixels."})
    embedding_width: int = field(default=64, metadata={"help": "Width of the shared space."})
    attention_heads: int = field(default=4, metadata={"help": "Heads of both towers."})
    vision_width: int = field(default=128, metadata={"help": "Width of the image tower."})
    vision_mlp_width: int = field(default=256, metadata={"help": "Hidden width of its MLPs."})
    vision_layers: int = field(default=4, metadata={"help": "Layers of the image tower."})
    text_width: int = field(default=96, metadata={"help": "Width of the text tower."})
    text_mlp_width: int = field(default=192, metadata={"help": "Hidden width of its MLPs."})
    text_layers: int = field(default=3, metadata={"help": "Layers of the text tower."})


def main(arguments: list[str] | None = None) -> None:
    """Train, save the model and its processor, and keep log, results and card beside them."""
    shape, args = parse_recipe(BaseArguments, NegCLIPArguments, arguments=arguments, description=__doc__)
    set_seed(args.seed)
    processor = make_processor(shape)
    trainer = NegCLIPTrainer(
        model=make_model(shape, processor.tokenizer),
        args=args,
        train_dataset=WebSceneDataset(shape.scenes, "train", shape.image_size, args.seed, shape.dense),
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    folder = Path(args.output_dir)
    trainer.model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training_log.json").write_text(json.dumps(trainer.state.log_history, indent=1) + "\n")
    evaluate_and_document(folder, {**vars(shape), **args.to_dict()})


def evaluate_and_document(folder: Path, recipe: dict[str, Any], items: int = TrainingChoice.items) -> None:
    """Evaluate the saved model, and write its results and its card beside it."""
    results = evaluate_saved(folder, dual_encoder_benchmarks(items), folder.name)
    document(folder, "base", results, recipe)
    print(table([results]))


def make_processor(shape: BaseArguments) -> CLIPProcessor:
    """A tokenizer trained on the world's own captions, and pixels as the model wants them."""
    corpus = [
        caption(generate_scene(seed), random.Random(seed)).text
        for caption in (web_caption, full_caption)
        for seed in range(TOKENIZER_CAPTIONS)
    ]
    side = {"height": shape.image_size, "width": shape.image_size}
    pixels = CLIPImageProcessor(
        size=side, do_center_crop=False, do_resize=True, image_mean=PIXEL_MEAN, image_std=PIXEL_STD
    )
    return CLIPProcessor(pixels, train_clip_tokenizer(corpus, vocab_size=VOCABULARY, max_length=CONTEXT_LENGTH))


def make_model(shape: BaseArguments, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A new model. CLIP's own initialisation is for wide towers: here places would start as noise below the pixels."""
    model = CLIPModel(make_config(shape, tokenizer))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            nn.init.xavier_uniform_(parameter)
    nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=POSITION_STD)
    return model


def make_config(shape: BaseArguments, tokenizer: CLIPTokenizer) -> CLIPConfig:
    """CLIP's configuration in the given shape."""
    common = {
        "num_attention_heads": shape.attention_heads,
        "projection_dim": shape.embedding_width,
        "hidden_act": "quick_gelu",
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT_LENGTH,
        "hidden_size": shape.text_width,
        "intermediate_size": shape.text_mlp_width,
        "num_hidden_layers": shape.text_layers,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
        "hidden_size": shape.vision_width,
        "intermediate_size": shape.vision_mlp_width,
        "num_hidden_layers": shape.vision_layers,
    }
    return CLIPConfig(
        text_config={**common, **text}, vision_config={**common, **vision}, projection_dim=shape.embedding_width
    )


if __name__ == "__main__":
    main()
