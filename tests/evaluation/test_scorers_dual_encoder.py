"""Encoding does each piece of work once, and the saving changes no score."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import SiglipConfig, SiglipModel

from compalign.data.features.encode import distinct
from compalign.evaluation import EncodedReferences, encode_references

TEXTS = ["a dog", "a large red cat above a small blue heart, in the sun", "a cat on a sofa", "", "a dog"]


def noise(seed: int, size: int = 40) -> Image.Image:
    """An image of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    """The image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def encode(model, processor, images, texts, **options) -> EncodedReferences:
    return encode_references(model, processor, images, texts, progress=False, **options)


def plain_features(model, processor, images, texts):
    """The slow reference: one image and one padded text at a time."""
    model.eval()
    with torch.no_grad():
        image_features = [
            model.get_image_features(**processor.image_processor(image, return_tensors="pt")).pooler_output
            for image in images
        ]
        text_features = [
            model.get_text_features(
                **processor.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
            ).pooler_output
            for text in texts
        ]
    return normalize(torch.cat(image_features), dim=-1), normalize(torch.cat(text_features), dim=-1)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_scores_equal_one_at_a_time_encoding(model, processor, batch_size):
    images = [noise(0), noise(1), noise(0)]
    encoded = encode(model, processor, images, TEXTS, batch_size=batch_size)
    image_features, text_features = plain_features(model, processor, images, TEXTS)
    image_groups, text_groups = np.array([[0, 1], [2, 1]]), np.array([[0, 1, 2], [3, 4, 1]])
    expected = torch.einsum("nid,ncd->nci", image_features[image_groups], text_features[text_groups])
    # Float32 rounding: padding and batch shape change the order of sums.
    np.testing.assert_allclose(encoded.scores(image_groups, text_groups), expected.numpy(), atol=2e-6)


def test_text_scores_are_the_cosines_between_the_texts_of_a_group(model, processor):
    images = [noise(0)]
    groups = np.array([[0, 1, 2], [3, 4, 0]])
    scores = encode(model, processor, images, TEXTS).text_scores(groups)
    _, texts = plain_features(model, processor, images, TEXTS)
    np.testing.assert_allclose(scores, torch.einsum("ncd,nkd->nck", texts[groups], texts[groups]), atol=2e-6)
    assert scores[1, 1, 2] == scores[1, 2, 1] == pytest.approx(1)  # "a dog" twice
    assert scores.dtype == np.float32


def test_a_cache_spares_the_second_evaluation_every_forward_and_changes_no_score(model, processor, counts, tmp_path):
    images, groups = [noise(0), noise(1), noise(0)], (np.array([[0, 1]]), np.array([[0, 2, 4]]))
    without = encode(model, processor, images, TEXTS)
    first = encode(model, processor, images, TEXTS, cache=tmp_path)
    counts.clear()
    second = encode(model, processor, images, TEXTS, cache=tmp_path)
    assert not counts
    spared = {"images_encoded": 0, "image_batches": 0, "texts_encoded": 0, "text_batches": 0}
    assert second.counts == first.counts | spared
    for encoded in (first, second):
        assert np.array_equal(encoded.scores(*groups), without.scores(*groups))


def test_every_distinct_reference_is_encoded_and_decoded_once(model, processor, counts, tmp_path):
    path, twin = tmp_path / "a.png", tmp_path / "twin.png"
    path.write_bytes(png(noise(0)))
    twin.write_bytes(png(noise(0)))
    same_file = [path, str(path), twin, path.read_bytes(), {"bytes": None, "path": str(path)}]
    encoded = encode(model, processor, [*same_file, noise(1), noise(1)], TEXTS, batch_size=4)
    assert counts["images"] == counts["decoded"] == len(encoded.image_features) == 2
    assert counts["texts"] == len(encoded.text_features) == 4
    assert encoded.image_rows.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert encoded.text_rows.tolist() == [0, 1, 2, 3, 0]
    assert encoded.counts == {
        "images_requested": 7,
        "images_encoded": 2,
        "image_batches": counts["image batches"],
        "texts_requested": 5,
        "texts_encoded": 4,
        "text_batches": counts["text batches"],
        "texts_truncated": 0,
    }


def test_images_of_equal_indices_and_other_palettes_are_different(model, processor):
    red, blue = Image.new("P", (8, 8)), Image.new("P", (8, 8))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert encode(model, processor, [red, blue], ["a"]).image_rows.tolist() == [0, 1]


def test_texts_are_trimmed_to_the_longest_of_a_batch_of_similar_length(model, processor, counts):
    texts = [" ".join(["dog"] * (1 + 9 * (k % 2)) + ["cat"] * (k // 2)) for k in range(8)]
    encode(model, processor, [noise(0)], texts, batch_size=4)
    lengths = [len(processor.tokenizer(text)["input_ids"]) for text in texts]
    short, long = sorted(lengths)[:4], sorted(lengths)[4:]
    assert counts["tokens"] == 4 * max(short) + 4 * max(long) < 8 * max(lengths)


def test_a_text_that_is_too_long_is_truncated_and_counted(model, processor):
    encoded = encode(model, processor, [noise(0)], ["dog " * 100, "dog"])
    assert encoded.counts["texts_truncated"] == 1
    _, expected = plain_features(model, processor, [noise(0)], ["dog " * 100, "dog"])
    torch.testing.assert_close(encoded.text_features, expected, atol=2e-6, rtol=0)


def test_texts_of_a_tower_that_attends_to_padding_are_padded_in_full(model, processor, counts):
    """SigLIP reads the last position, and was trained on texts of one length."""
    text = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": 24, "num_hidden_layers": 1}
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = tower | {"image_size": 32, "patch_size": 8, "num_hidden_layers": 1}
    siglip = SiglipModel(SiglipConfig(text_config=tower | text | {"projection_size": 32}, vision_config=vision)).eval()
    encoded = encode(siglip, processor, [noise(0)], TEXTS[:2])
    with torch.no_grad():
        padded = processor.tokenizer(
            TEXTS[:2], padding="max_length", truncation=True, max_length=24, return_tensors="pt"
        )
        # Its padding is not hidden, as in its training.
        expected = normalize(siglip.get_text_features(input_ids=padded["input_ids"]).pooler_output, dim=-1)
    torch.testing.assert_close(encoded.text_features, expected, atol=2e-6, rtol=0)


def test_half_precision_is_widened_before_it_is_normalised(model, processor):
    encoded = encode(model.bfloat16(), processor, [noise(0), noise(1)], TEXTS)
    assert encoded.image_features.dtype == encoded.text_features.dtype == torch.float32
    # In bfloat16 a unit vector's length is only exact to 2e-3.
    lengths = torch.cat([encoded.image_features, encoded.text_features]).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(len(lengths)), atol=1e-6, rtol=0)


def test_equal_captions_tie_exactly(model, processor):
    encoded = encode(model, processor, [noise(k) for k in range(5)], ["a dog", "a cat", "a dog"])
    scores = encoded.scores(np.arange(5)[:, None], np.array([[0, 1, 2]] * 5))
    assert (scores[:, 0] == scores[:, 2]).all()
    assert (scores[:, 0] != scores[:, 1]).all()


def test_the_model_and_the_random_state_are_left_as_they_were(model, processor):
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    encode(model, processor, [noise(0)], ["a dog"])
    assert [module.training for module in model.modules()] == modes
    assert len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_the_modes_come_back_after_an_error(model, processor):
    modes = [module.training for module in model.modules()]
    with pytest.raises(ValueError, match="not an image"):
        encode(model, processor, [b"no image"], ["a dog"])
    assert [module.training for module in model.modules()] == modes


def test_workers_decode_the_same_pixels(model, processor):
    images = [png(noise(k)) for k in range(5)]
    alone, together = (encode(model, processor, images, ["a"], batch_size=2, num_workers=n) for n in (0, 2))
    assert torch.equal(alone.image_features, together.image_features)


@pytest.mark.parametrize(("images", "texts"), [([], ["a dog"]), ([noise(0)], [])])
def test_nothing_to_encode_is_refused(model, processor, images, texts):
    with pytest.raises(ValueError, match="at least one"):
        encode(model, processor, images, texts)


def test_keys_are_numbered_by_their_first_occurrence():
    assert distinct(["b", "a", "b", "c", "a"]) == ({"b": 0, "a": 1, "c": 3}, [0, 1, 0, 2, 1])
    assert distinct([]) == ({}, [])
