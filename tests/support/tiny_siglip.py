"""A tiny SigLIP, its processor, and trainers of the three dual-encoder methods over it."""

import tiny
import torch
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

LENGTH = 24  # tokens, padded


def make_processor() -> SiglipProcessor:
    """A processor for 32-pixel images whose tokenizer makes an attention mask and states no length, as Gemma's."""
    words = tiny.make_processor().tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words.backend_tokenizer,
        bos_token=words.bos_token,
        eos_token=words.eos_token,
        pad_token=words.pad_token,
    )
    side = {"height": tiny.IMAGE_SIZE, "width": tiny.IMAGE_SIZE}
    return SiglipProcessor(SiglipImageProcessorPil(size=side), tokenizer)


def make_model(scale: float = 117.3, bias: float = -12.9) -> SiglipModel:
    """A SigLIP of width 32 with fixed random weights, and the scale and bias of the published ones."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": len(make_processor().tokenizer), "max_position_embeddings": LENGTH, "projection_size": 32}
    vision = {"image_size": tiny.IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config={**tower, **text}, vision_config={**tower, **vision}))
    model.logit_scale.data.fill_(scale).log_()
    model.logit_bias.data.fill_(bias)
    return model


def make_trainer(method: str, output_dir, rows, model=None, **arguments):
    """A trainer of one method over a tiny SigLIP."""
    return tiny.make_trainer(
        method,
        output_dir,
        rows,
        model=make_model() if model is None else model,
        processor=make_processor(),
        **arguments,
    )
