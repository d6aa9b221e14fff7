"""Winoground on a small folder made in the official schema: the dataset is gated and must not be copied."""

import json

import numpy as np
import pytest
from annotated import values
from PIL import Image

from compalign.evaluation import encode_references, evaluate_model, winoground_scores
from compalign.evaluation.benchmarks import Winoground
from compalign.evaluation.benchmarks.winoground import CHANCE

# scores[caption][image]
BOTH, TEXT_ONLY, IMAGE_ONLY, NEITHER, LEVEL = (
    [[3, 1], [1, 3]],
    [[3, 4], [2, 5]],
    [[3, 2], [4, 5]],
    [[1, 3], [3, 1]],
    [[1, 1], [1, 1]],
)


@pytest.fixture
def folder(tmp_path):
    """Five items, one of them with a transparent picture."""
    (tmp_path / "images").mkdir()
    lines = []
    for k, tag in enumerate(["Object", "Object", "Relation", "Relation", "Both"]):
        for side in range(2):
            mode = "RGBA" if k == 4 else "RGB"
            Image.effect_noise((40, 30), 60 + k).convert(mode).save(tmp_path / "images" / f"ex_{k}_img_{side}.png")
        item = {"id": k, "caption_0": f"{k} cups on a book", "caption_1": f"a book on {k} cups"}
        item |= {"image_0": f"ex_{k}_img_0", "image_1": f"ex_{k}_img_1", "tag": "Noun", "collapsed_tag": tag}
        lines.append(json.dumps(item | {"secondary_tag": "", "num_main_preds": 1}))
    (tmp_path / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_text_image_and_group_are_strict_over_all_items_and_by_tag(folder):
    scores = np.array([BOTH, TEXT_ONLY, IMAGE_ONLY, NEITHER, LEVEL], dtype=np.float32)
    metrics, rows = Winoground(folder).score(scores)
    assert values(metrics) == {
        "text": 2 / 5,
        "image": 2 / 5,
        "group": 1 / 5,
        "text_both": 0,
        "image_both": 0,
        "group_both": 0,
        "text_object": 1,
        "image_object": 1 / 2,
        "group_object": 1 / 2,
        "text_relation": 0,
        "image_relation": 1 / 2,
        "group_relation": 0,
    }
    assert (metrics["text"].n, metrics["text_object"].n) == (5, 2)
    assert [metrics[test].tie_rate for test in ("text", "image", "group")] == [1 / 5] * 3
    assert [metrics[test].chance for test in ("text", "image", "group")] == [1 / 4, 1 / 4, 1 / 6]
    assert [row["group"] for row in rows] == [True, False, False, False, False]


def test_chance_is_what_random_scores_reach():
    found = winoground_scores(np.random.default_rng(0).random((20_000, 2, 2)))
    # Three standard errors of 20,000 items.
    assert found == pytest.approx(CHANCE, abs=0.01)


def test_captions_meet_their_own_pair_of_images(folder, model, processor):
    benchmark = Winoground(folder)
    rows = evaluate_model(model, processor, [benchmark], progress=False).benchmarks["winoground"].rows
    for k in (0, 4):
        images = [folder / "images" / f"ex_{k}_img_{side}.png" for side in range(2)]
        texts = [f"{k} cups on a book", f"a book on {k} cups"]
        plain = encode_references(model, processor, images, texts, progress=False)
        # Float32 rounding of cosines.
        np.testing.assert_allclose(rows[k]["scores"], plain.text_features @ plain.image_features.T, atol=2e-6)


def test_a_subset_is_said_to_be_one_and_more_items_are_refused(folder):
    assert Winoground(folder).notes == ["a subset: 5 of 400 items of the complete set"]
    lines = (folder / "examples.jsonl").read_text().splitlines()
    many = [json.dumps(json.loads(lines[0]) | {"id": k}) for k in range(401)]
    (folder / "examples.jsonl").write_text("\n".join(many))
    with pytest.raises(ValueError, match=r"\{'examples.jsonl': 401\} items where the complete set has"):
        Winoground(folder)


def test_a_missing_image_is_refused_by_name(folder):
    (folder / "images" / "ex_3_img_1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 10 images are missing, such as ex_3_img_1\.png"):
        Winoground(folder)


def test_two_items_of_one_id_are_refused(folder):
    path = folder / "examples.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match="two items have the id '0'"):
        Winoground(folder)
