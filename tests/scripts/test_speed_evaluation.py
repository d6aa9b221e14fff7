"""The programs that are timed agree on every item, and ours encodes each image and each caption once."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import make_model, make_processor
from transformers import CLIPModel

from compalign.evaluation import SugarCrepe
from compalign.scripts import speed
from compalign.scripts.speed import EvaluationSpeedArguments
from compalign.scripts.speed import evaluation as speed_evaluation
from compalign.scripts.speed.evaluation import Run


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    make_model(CLIPModel).save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    annotations = speed_evaluation.write_annotations(EvaluationSpeedArguments(images_used=4), folder / "a")
    return SugarCrepe(annotations, speed_evaluation.draw_images(annotations, folder / "b")).items


class FakeSentenceTransformer:
    """What sentence-transformers is asked for, by way of transformers."""

    def __init__(self, path, device):
        self.model, self.processor = CLIPModel.from_pretrained(path).to(device).eval(), make_processor()

    @torch.inference_mode()
    def encode(self, inputs, batch_size, normalize_embeddings, show_progress_bar):
        if isinstance(inputs[0], str):
            tokens = self.processor.tokenizer(inputs, padding=True, return_tensors="pt")
            features = self.model.get_text_features(**tokens).pooler_output
        else:
            pixels = self.processor.image_processor(inputs, return_tensors="pt")
            features = self.model.get_image_features(**pixels).pooler_output
        return torch.nn.functional.normalize(features).numpy()


@pytest.mark.parametrize("installed", [False, True])
def test_all_programs_agree_and_ours_encodes_what_is_distinct_once(clip, installed, monkeypatch, tmp_path, capsys):
    stand_in = SimpleNamespace(SentenceTransformer=FakeSentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", stand_in)
    monkeypatch.setattr(speed_evaluation, "find_spec", lambda name: stand_in if installed else None)
    flags = ["--model", str(clip), "--images_used", "6", "--items_of_others", "9", "--batch_size", "4"]
    figures = speed.main(["evaluation", *flags, "--output_dir", str(tmp_path)])
    assert figures["images through the model / distinct ones"] == 1
    assert figures["texts through the model / distinct ones"] == 1
    assert figures["images and texts through the model, filled cache"] == 0
    differences = {name: value for name, value in figures.items() if name.startswith("largest difference")}
    assert len(differences) == 2 + installed
    assert max(differences.values()) < 1e-6
    assert all(value == 0 for name, value in figures.items() if name.startswith("choices that differ"))
    printed = capsys.readouterr().out
    assert ("sentence-transformers is not installed" in printed) != installed
    assert ("sentence-transformers, items/s" in figures) == installed
    written = json.loads((tmp_path / "speed.json").read_text())
    assert written["figures"] == figures
    assert "of 6 drawn images and" in written["setting"]


def test_towers_are_counted_by_rows_and_only_inside(clip, items):
    model, processor = CLIPModel.from_pretrained(clip), make_processor()
    with speed_evaluation.counted(model) as passed:
        speed_evaluation.score_one_by_one(model, processor, items[:3])
    speed_evaluation.score_one_by_one(model, processor, items[:1])
    assert passed == {"images": 3, "texts": 6}


def test_gain_is_a_ratio_of_times_per_item():
    ours, theirs = Run(np.zeros((10, 2)), wall=2.0, processor=1.0), Run(np.zeros((5, 2)), wall=4.0, processor=3.0)
    assert ours.speed == 5
    assert ours.gain_over(theirs) == {"wall": 4.0, "processor": 6.0}


def test_a_difference_is_found_where_there_is_one():
    ours, theirs = np.array([[0.5, 0.25], [0.5, 0.25]]), np.array([[0.5, 0.25], [0.125, 0.25]])
    found = speed_evaluation.differences("theirs", ours, theirs)
    assert found == {"largest difference of a score, theirs": 0.375, "choices that differ, theirs": 1}


def test_used_images_keep_all_their_items(shared, tmp_path):
    folder = shared / "data" / "coco_by" / "sugarcrepe"
    args = EvaluationSpeedArguments(annotations=str(folder), images_used=10)
    kept = speed_evaluation.read_annotations(speed_evaluation.write_annotations(args, tmp_path / "a"))
    listed = speed_evaluation.read_annotations(folder)
    names = speed_evaluation.file_names(kept)
    assert len(names) == 10
    assert kept == {
        kind: {key: record for key, record in records.items() if record["filename"] in names}
        for kind, records in listed.items()
    }


def test_drawn_images_are_of_the_size_of_photographs_and_different(items):
    images = sorted({item.image for item in items})
    assert len({path.read_bytes() for path in images}) == len(images) == 4
    assert all(100_000 < path.stat().st_size < 250_000 for path in images)
    assert 4 <= len(items) / len(images) <= 5  # SugarCrepe has 4.8 items an image
