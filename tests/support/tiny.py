"""Tiny real things for the trainers' tests: a CLIP of two layers, its processor, generated rows, and trainers."""

import random

import torch
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor

from compalign.data.scenes import full_caption, generate_scene, scene_row
from compalign.data.tokenization import train_clip_tokenizer
from compalign.modeling import CECLIPModel, DeGLACLIPModel
from compalign.trainers import (
    CECLIPArguments,
    CECLIPTrainer,
    DeGLAArguments,
    DeGLATrainer,
    NegCLIPArguments,
    NegCLIPTrainer,
)

IMAGE_SIZE = 32
METHODS = {
    "negclip": (CLIPModel, NegCLIPTrainer, NegCLIPArguments),
    "ceclip": (CECLIPModel, CECLIPTrainer, CECLIPArguments),
    "degla": (DeGLACLIPModel, DeGLATrainer, DeGLAArguments),
}


def make_processor() -> CLIPProcessor:
    """A processor for 32-pixel images and captions of scenes."""
    corpus = [full_caption(generate_scene(seed), random.Random(seed)).text for seed in range(200)]
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPProcessor(
        CLIPImageProcessor(size=side, crop_size=side), train_clip_tokenizer(corpus, vocab_size=600, max_length=77)
    )


def make_model(model_class: type, dropout: float = 0.0, **config):
    """A CLIP-like model of width 32 with fixed random weights."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tower["attention_dropout"] = dropout
    tokens = make_processor().tokenizer
    text = {"vocab_size": len(tokens), "bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id}
    torch.manual_seed(0)
    return model_class(
        model_class.config_class(
            text_config={**tower, **text, "pad_token_id": tokens.pad_token_id},
            vision_config={**tower, "image_size": IMAGE_SIZE, "patch_size": 8},
            projection_dim=16,
            **config,
        )
    )


def make_rows(count: int, num_negatives: int = 4, offset: int = 0) -> list[dict]:
    """Generated scenes with captions and negatives; some slots are masked."""
    return [scene_row(offset + seed, num_negatives=num_negatives, image_size=IMAGE_SIZE) for seed in range(count)]


def make_trainer(
    method: str, output_dir, rows, eval_rows=None, model=None, callbacks=None, processor=None, **arguments
):
    """A trainer of one method with small, quick settings."""
    model_class, trainer_class, arguments_class = METHODS[method]
    settings = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        "num_negatives": 4,
        **arguments,
    }
    if model is None:
        extra = {"num_negatives": settings["num_negatives"]} if method == "ceclip" else {}
        model = make_model(model_class, **extra)
    args = arguments_class(output_dir=str(output_dir), **settings)
    return trainer_class(
        model=model,
        args=args,
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=make_processor() if processor is None else processor,
        callbacks=callbacks,
    )
