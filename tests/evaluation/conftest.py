"""A tiny CLIP with random weights, its processor, and a count of what it is asked to do."""

from collections import Counter

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from compalign.data.tokenization import train_clip_tokenizer

CORPUS = ["a large red cat above a small blue heart", "two dogs and a cat on a sofa, in the sun"]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small models lose more by starting threads than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def processor() -> CLIPProcessor:
    """Resize and crop to 32 pixels, at most 40 tokens."""
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return CLIPProcessor(image_processor, train_clip_tokenizer(CORPUS, vocab_size=600, max_length=40))


@pytest.fixture
def model(processor) -> CLIPModel:
    """A two-layer CLIP in training mode, with dropout, but for its image tower: as if that were frozen."""
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = TOWER | special | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "attention_dropout": 0.5}
    vision = TOWER | {"image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.train().vision_model.eval()
    return model


@pytest.fixture
def counts(model, monkeypatch) -> Counter:
    """Count images and texts that pass through the model, and images that are decoded."""
    from compalign.data.features import encode as encoding

    counter = Counter()
    encode_images, encode_texts, open_image = model.get_image_features, model.get_text_features, encoding.open_image

    def count_images(pixel_values):
        counter["images"] += len(pixel_values)
        counter["image batches"] += 1
        return encode_images(pixel_values=pixel_values)

    def count_texts(input_ids, **inputs):
        counter["texts"] += len(input_ids)
        counter["tokens"] += input_ids.numel()
        counter["text batches"] += 1
        return encode_texts(input_ids=input_ids, **inputs)

    def count_decoded(source):
        counter["decoded"] += 1
        return open_image(source)

    monkeypatch.setattr(model, "get_image_features", count_images)
    monkeypatch.setattr(model, "get_text_features", count_texts)
    monkeypatch.setattr(encoding, "open_image", count_decoded)
    return counter
