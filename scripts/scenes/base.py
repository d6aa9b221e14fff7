"""Train the small base model from scratch on generated scenes: like a real CLIP, it recognises and hardly composes.

    compalign scenes base --config scripts/recipes/scenes_base.yaml --output_dir runs/base

Stage one teaches the image tower to see, from the labels of the scene graphs. Stage two freezes it and trains the text
tower and both projections by plain contrast without hard negatives, on captions as the web has them: a phrase for one
object, unordered tags for several. What comes out names things well and ignores which belongs to which, although its
image embeddings hold it, as a linear probe shows. A finished stage is read from the output folder. The folder loads
with `AutoModel.from_pretrained` and `AutoProcessor.from_pretrained`.
"""

import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_model as load_weights
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer, set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

from ...data.scenes import WEB_MIX, WebSceneDataset, full_caption, generate_scene, web_caption
from ...data.tokenization import train_clip_tokenizer
from ...evaluation import plot_results, table
from ...modeling import load_model, load_processor
from ...trainers import NegCLIPArguments, NegCLIPTrainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import LOG, train_and_save
from ...trainers.trainer import BaseArguments
from .choice import CHART, TrainingChoice
from .probe import probe
from .saved import document, dual_encoder_benchmarks, evaluate_saved
from .vision import PIXEL_MEAN, PIXEL_STD, LabelledScenes, SupervisedVision, VisionTrainer

CONTEXT_LENGTH = 64
VOCABULARY = 1200  # more than there are merges: every word of the world becomes one token
TOKENIZER_CAPTIONS = 5000
POSITION_STD = 0.3
VISION, VISION_LOG = "vision", "vision_training_log.json"  # folder of stage one, and a copy of its log
VISION_SEED = 2**62


@dataclass
class BaseModelArguments:
    """The shape of the model and the size of its world."""

    GROUP: ClassVar[str] = "model"

    bound: float = field(
        default=WEB_MIX.bound,
        metadata={"help": "Share of stage two's scenes of several objects whose caption binds.", "group": "data"},
    )
    vision_steps: int = field(default=4500, metadata={"help": "Steps of stage one.", "group": "training"})
    vision_plain_steps: int = field(
        default=1000, metadata={"help": "First steps of stage one without zoomed scenes, an easier start."}
    )
    vision_learning_rate: float = field(
        default=1.2e-3, metadata={"help": "Peak learning rate of stage one.", "group": "training"}
    )
    image_size: int = field(default=64, metadata={"help": "Side of the images in pixels."})
    patch_size: int = field(default=8, metadata={"help": "Side of a patch in pixels."})
    embedding_width: int = field(default=128, metadata={"help": "Width of the shared embedding space."})
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
    """Train a new model in two stages, and save it with its processor in the output folder."""
    set_seed(args.seed)  # of the random weights
    processor = make_processor(shape)
    model = make_model(shape, processor.tokenizer)
    train_vision(model, shape, args)
    model.vision_model.requires_grad_(False)
    mix = replace(WEB_MIX, bound=shape.bound)
    scenes = args.max_steps * args.train_batch_size
    trainer = NegCLIPTrainer(
        model=model,
        args=args,
        train_dataset=WebSceneDataset(scenes, "train", shape.image_size, args.seed, mix),
        processing_class=processor,
    )
    train_and_save(trainer)
    shutil.copy(Path(args.output_dir, VISION, LOG), Path(args.output_dir, VISION_LOG))


def train_vision(model: CLIPModel, shape: BaseModelArguments, args: NegCLIPArguments) -> None:
    """Train the image tower in place, or read it from the output folder if it is trained already."""
    folder = Path(args.output_dir) / VISION
    supervised = SupervisedVision(model.vision_model)
    if not (folder / LOG).exists():
        training = BaseArguments(
            output_dir=str(folder),
            per_device_train_batch_size=args.train_batch_size,
            max_steps=shape.vision_steps,
            learning_rate=shape.vision_learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            weight_decay=0.05,
            adam_beta2=0.98,
            max_grad_norm=1.0,
            train_sampling_strategy="sequential",
            seed=args.seed,
            logging_steps=args.logging_steps,
            save_strategy="steps",
            save_steps=500,
            save_total_limit=1,
            resume_from_checkpoint=get_last_checkpoint(folder) if folder.exists() else None,
            use_cpu=args.use_cpu,
            report_to=args.report_to,
            disable_tqdm=args.disable_tqdm,
        )
        # Other scenes than those of stage two, which counts from the same seed.
        scenes = LabelledScenes(
            shape.vision_steps * args.train_batch_size,
            "train",
            shape.image_size,
            shape.patch_size,
            VISION_SEED,
            plain=shape.vision_plain_steps * args.train_batch_size,
        )
        train_and_save(VisionTrainer(supervised, training, scenes))
    load_weights(supervised, folder / SAFE_WEIGHTS_NAME)


def evaluate_and_document(folder: Path, recipe: dict[str, Any], items: int = TrainingChoice.items) -> None:
    """Evaluate the saved model, probe its image embeddings, and write its results and its card beside it."""
    results = evaluate_saved(folder, dual_encoder_benchmarks(items), folder.name)
    results.notes.append(_probe_note(folder, recipe["image_size"]))
    plot_results([results], folder / CHART)
    document(folder, "base", results, recipe, chart=CHART)
    print(table([results]))


def _probe_note(folder: Path, image_size: int) -> str:
    """Say how well linear probes read colours and places from the image embedding, beside what captions score."""
    found = probe(load_model(folder), load_processor(folder), image_size=image_size)
    return (
        "linear probes of the image embedding tell which of two things has which colour in "
        f"{100 * found.colours:.1f} % and which is on the left in {100 * found.places:.1f} % of {found.scenes:,} "
        "scenes of two things"
    )


def make_processor(shape: BaseModelArguments) -> CLIPProcessor:
    """Train a tokenizer on captions of the generated world, and set the size and scale of the pixels."""
    corpus = [
        text
        for seed in range(TOKENIZER_CAPTIONS)
        for scene in [generate_scene(seed)]
        for text in (web_caption(scene, random.Random(seed)), full_caption(scene, random.Random(seed)).text)
    ]
    side = {"height": shape.image_size, "width": shape.image_size}
    pixels = CLIPImageProcessor(
        size=side, do_center_crop=False, do_resize=True, image_mean=[PIXEL_MEAN] * 3, image_std=[PIXEL_STD] * 3
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
