"""A tiny CLIP: two layers of width 32, a tokenizer trained in memory, random images and captions of uneven length."""

from collections.abc import Callable

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

BOS, EOS, CONTEXT = 638, 639, 77


@pytest.fixture(scope="session")
def clip_sizes() -> Callable[..., dict]:
    """Keyword arguments of a tiny CLIP-like configuration; `eos_token_id=2` is that of old configurations."""

    def sizes(eos_token_id: int = EOS) -> dict:
        tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = {"vocab_size": 640, "max_position_embeddings": CONTEXT, "bos_token_id": BOS, "pad_token_id": 1}
        return {
            "text_config": {**tower, **text, "eos_token_id": eos_token_id},
            "vision_config": {**tower, "image_size": 32, "patch_size": 8},
            "projection_dim": 16,
        }

    return sizes


@pytest.fixture(scope="session")
def caption_batch() -> Callable[..., dict[str, torch.Tensor]]:
    """Images and captions padded to the full context: `input_ids`, `attention_mask`, `pixel_values`."""

    def batch(batch_size: int, num_negatives: int, pad: int = EOS, seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        num_captions = batch_size * (1 + num_negatives)
        lengths = torch.randint(3, 40, (num_captions,), generator=generator)
        ids = torch.randint(3, BOS, (num_captions, CONTEXT), generator=generator)
        position = torch.arange(CONTEXT)
        ids[:, 0] = BOS
        ids[position == lengths[:, None] - 1] = EOS
        ids[position >= lengths[:, None]] = pad
        return {
            "input_ids": ids,
            "attention_mask": (position < lengths[:, None]).long(),
            "pixel_values": torch.randn(batch_size, 3, 32, 32, generator=generator),
        }

    return batch


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, clip_sizes: Callable[..., dict]) -> str:
    """A saved plain CLIP with its processor."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(**clip_sizes())).save_pretrained(folder)
    tokenizer = CLIPTokenizer().train_new_from_iterator(
        ["a photo of a red cube left of a blue ball", "this is a photo of a dog"], vocab_size=600
    )
    tokenizer.model_max_length = CONTEXT
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return str(folder)
