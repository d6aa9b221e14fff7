"""Train the small base model from scratch on web-like captions of generated scenes.

    compalign scenes base --config scripts/recipes/scenes_base.yaml --output_dir runs/base

The loss is plain contrast without hard negatives: like a real CLIP, the model recognises things and hardly understands
composition. Its folder loads with `AutoModel.from_pretrained` and `AutoProcessor.from_pretrained`.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer, set_seed

from ...data.scenes import WebSceneDataset, full_caption, generate_scene, web_caption
from ...data.tokenization import train_clip_tokenizer
from ...evaluation import table
from ...trainers import NegCLIPArguments, NegCLIPTrainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from .choice import TrainingChoice
from .fine_tuning import document, dual_encoder_benchmarks, evaluate_saved

CONTEXT_LENGTH = 64
VOCABULARY = 700  # more than there are merges: every word of the world becomes one token
PIXEL_MEAN, PIXEL_STD = [0.6, 0.6, 0.6], [0.3, 0.3, 0.3]
TOKENIZER_CAPTIONS = 5000
POSITION_STD = 0.3


@dataclass
class BaseModelArguments:
    """The shape of the model and the size of its world."""

    GROUP: ClassVar[str] = "model"

    scenes: int = field(default=500_000, metadata={"help": "Number of distinct training scenes.", "group": "data"})
    dense: int = field(
        default=0, metadata={"help": "Number of leading rows with full captions, an easier start.", "group": "data"}
    )
    image_size: int = field(default=64, metadata={"help": "Side of the images in pixels."})
    patch_size: int = field(default=8, metadata={"help": "Side of a patch in pixels."})
    embedding_width: int = field(default=64, metadata={"help": "Width of the shared embedding space."})
    attention_heads: int = field(default=4, metadata={"help": "Attention heads of both towers."})
    vision_width: int = field(default=128, metadata={"help": "Width of the image tower."})
    vision_mlp_width: int = field(default=256, metadata={"help": "Hidden width of the MLPs."})
    vision_layers: int = field(default=4, metadata={"help": "Layers of the image tower."})
    text_width: int = field(default=96, metadata={"help": "Width of the text tower."})
    text_mlp_width: int = field(default=192, metadata={"help": "Hidden width of the MLPs."})
    text_layers: int = field(default=3, metadata={"help": "Layers of the text tower."})


def main(arguments: list[str] | None = None) -> None:
    """Train, save the model and its processor, and write results and card beside them."""
    shape, args = parse_recipe(
        BaseModelArguments,
        NegCLIPArguments,
        arguments=arguments,
        description=__doc__,
        command="compalign scenes base",
    )
    train(shape, args)
    evaluate_and_document(Path(args.output_dir), {**vars(shape), **args.to_dict()})


def train(shape: BaseModelArguments, args: NegCLIPArguments) -> None:
    """Train a new model, and save it with its processor in the output folder."""
    set_seed(args.seed)  # of the random weights
    processor = make_processor(shape)
    trainer = NegCLIPTrainer(
        model=make_model(shape, processor.tokenizer),
        args=args,
        train_dataset=WebSceneDataset(shape.scenes, "train", shape.image_size, args.seed, shape.dense),
        processing_class=processor,
    )
    train_and_save(trainer)


def evaluate_and_document(folder: Path, recipe: dict[str, Any], items: int = TrainingChoice.items) -> None:
    """Evaluate the saved model, and write its results and its card beside it."""
    results = evaluate_saved(folder, dual_encoder_benchmarks(items), folder.name)
    document(folder, "base", results, recipe)
    print(table([results]))


def make_processor(shape: BaseModelArguments) -> CLIPProcessor:
    """Train a tokenizer on captions of the generated world, and set the size and scale of the pixels."""
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


def make_model(shape: BaseModelArguments, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Make a model with random weights.

    CLIP's own initialisation is for wide towers: here positions would start too small beside the pixels to be learned.
    """
    model = CLIPModel(make_config(shape, tokenizer))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            nn.init.xavier_uniform_(parameter)
    nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=POSITION_STD)
    return model


def make_config(shape: BaseModelArguments, tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Write the shape as a configuration of CLIP."""
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
