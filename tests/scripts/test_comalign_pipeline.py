"""ComAlign on real photographs with human captions, from files to scores: regions of COCO and of a detector."""

import json

import pytest
import tiny
import torch
from launch import TWO_PROCESSES, succeed
from transformers import (
    AutoModel,
    AutoProcessor,
    CLIPModel,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from compalign.data.components import load_components
from compalign.evaluation import CocoVal2017Retrieval, evaluate_model
from compalign.scripts import components

TRAINING = ["--max_steps", 3, "--per_device_train_batch_size", 4, "--warmup_steps", 1, "--use_cpu", "true"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny dual encoder."""
    folder = tmp_path_factory.mktemp("backbone")
    tiny.make_model(CLIPModel).save_pretrained(folder)
    tiny.make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector of YOLOS's kind with random weights: it finds something everywhere."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=[64, 64],
        num_detection_tokens=5,
        use_mid_position_embeddings=False,
        id2label={0: "thing", 1: "other"},
        label2id={"thing": 0, "other": 1},
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("source", ["instances", "detector"])
def test_photographs_from_files_to_scores(source, backbone, detector, shared, tmp_path):
    coco = shared / "data" / "coco_by"
    photographs, captions = coco / "images_256", coco / "captions_val2017.json"
    names = [image["file_name"] for image in json.loads((coco / "instances_val2017.json").read_text())["images"]]
    (tmp_path / "only.txt").write_text("\n".join(names[:12]))
    finder = {"instances": ["--instances", coco / "instances_val2017.json"]}.get(
        source, ["--detector", detector, "--threshold", 0.1]
    )
    flags = ["--captions", captions, "--images", photographs, "--only", tmp_path / "only.txt", *finder]
    counts = components.main([str(flag) for flag in (*flags, "--output_dir", tmp_path / "components")])
    assert counts["images"] == 12
    assert counts["entities"] > 0

    flags = ["--backbone", backbone, "--train", tmp_path / "components", "--images", photographs, *TRAINING]
    flags += ["--features", tmp_path / "features", "--output_dir", tmp_path / "heads", "--num_attention_heads", 2]
    processes = TWO_PROCESSES if source == "detector" else ()
    assert "train_loss" in succeed(*processes, "trainers/train_comalign.py", *flags).stdout

    model, processor = (auto.from_pretrained(tmp_path / "heads") for auto in (AutoModel, AutoProcessor))
    rows = {row["image"]: row for row in load_components(tmp_path / "components", photographs)}
    benchmark = CocoVal2017Retrieval(captions, photographs, minimum_coverage=0.0)
    results = evaluate_model(
        model,
        processor,
        [benchmark],
        regions=lambda image: tuple(rows.get(str(image), {}).get(role, []) for role in ("entities", "relations")),
        progress=False,
        cache=tmp_path / "features",
    )
    recall = results.metrics["coco_val2017_retrieval/text_to_image_recall_50"]
    assert 0 < recall <= 1
    assert results.encoded["images_requested"] == 124
    # The photographs trained on and their regions were encoded then, and are read from the disk now.
    assert results.encoded["images_encoded"] == 124 - 12
