"""ComAlign meets the benchmarks of the dual encoders, each distinct image, region, caption and phrase once."""

import numpy as np
import pytest
import tiny
import tiny_comalign
import torch
from transformers import CLIPModel

from compalign.data.components import extract
from compalign.data.scenes.components import SceneComponentDataset
from compalign.evaluation import Retrieval, evaluate_model
from compalign.evaluation.scorers.comalign import encode_components
from compalign.modeling import ComAlignProcessor


class Pairs(Retrieval):
    name, suite, columns = "pairs", "Pairs", {"image_to_text_recall_1": "I2T", "text_to_image_recall_1": "T2I"}


@pytest.fixture
def model():
    model = tiny_comalign.make_model()
    vars(model)["backbone"] = tiny.make_model(CLIPModel).eval()  # where the model keeps the one that it loads
    return model.eval()


@pytest.fixture
def rows():
    return list(SceneComponentDataset(6, image_size=tiny.IMAGE_SIZE))


def found_in(rows):
    """Answers with the regions of the scene that an image was drawn from."""
    known = {row["image"].tobytes(): (row["entities"], row["relations"]) for row in rows}
    return lambda image: known[image.tobytes()]


def test_scores_are_those_of_the_model_on_raw_inputs(model, rows):
    images, texts = [row["image"] for row in rows], [row["captions"][0].text for row in rows]
    encoded = encode_components(model, tiny.make_processor(), images, texts, found_in(rows), extract, progress=False)
    scores = encoded.scores(np.arange(6)[None], np.arange(6)[None])[0]
    parts = tiny.make_processor()
    processor = ComAlignProcessor(parts.image_processor, parts.tokenizer, entities=4, relations=3)
    regions = [
        {"entities": [e.box for e in row["entities"]][:4], "relations": [r.box for r in row["relations"]][:3]}
        for row in rows
    ]
    phrases = [{"entities": c.entities[:4], "relations": c.relations[:3]} for c in extract(texts)]
    with torch.inference_mode():
        output = model(**processor(images=images, regions=regions, text=texts, phrases=phrases))
        one_way, other_way = model.score(output)
    np.testing.assert_allclose(scores, ((one_way.T + other_way) / 2).numpy(), atol=1e-5)


def test_each_distinct_thing_is_encoded_once(model, rows):
    images = [row["image"] for row in rows] * 2
    texts = [row["captions"][0].text for row in rows] * 3
    encoded = encode_components(model, tiny.make_processor(), images, texts, found_in(rows), extract, progress=False)
    crops = {(row["image"].tobytes(), part.box) for row in rows for part in row["entities"][:4] + row["relations"][:3]}
    assert encoded.counts["images_requested"] == 12
    assert encoded.counts["images_encoded"] == 6 + len(crops)
    again = encoded.scores(np.arange(12)[None], np.arange(18)[None])[0]
    np.testing.assert_array_equal(again[:6, :6], again[6:12, 6:])


def test_benchmarks_are_scored_and_noted(model, rows):
    images, texts = [row["image"] for row in rows], [row["captions"][0].text for row in rows]
    benchmark = Pairs(images, texts, list(range(6)), ks=(1, 6))
    results = evaluate_model(model, tiny.make_processor(), [benchmark], regions=found_in(rows), progress=False)
    assert results.metrics["pairs/text_to_image_recall_6"] == 1
    assert results.activation == {"text": "quick_gelu", "vision": "quick_gelu"}


def test_an_image_without_regions_and_a_caption_without_phrases_are_scored_by_their_wholes(model, rows):
    images, texts = [rows[0]["image"]], ["", "of with under"]
    encoded = encode_components(
        model, tiny.make_processor(), images, texts, lambda image: ([], []), extract, progress=False
    )
    assert not encoded.output.image_mask.any()
    assert not encoded.output.text_mask.any()
    cosine = (encoded.output.text_embeds @ encoded.output.image_embeds.T).numpy()
    np.testing.assert_allclose(encoded.scores(np.array([[0]]), np.array([[0, 1]]))[0], cosine, atol=1e-6)


def test_the_released_score_is_refused_on_single_items(model, rows):
    model.config.score = "released"
    images, texts = [row["image"] for row in rows], [row["captions"][0].text for row in rows]
    encoded = encode_components(model, tiny.make_processor(), images, texts, found_in(rows), extract, progress=False)
    assert encoded.scores(np.arange(6)[None], np.arange(6)[None]).shape == (1, 6, 6)
    with pytest.raises(ValueError, match="depends on all candidates"):
        encoded.scores(np.arange(6)[:, None], np.arange(6)[:, None])
