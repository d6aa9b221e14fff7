"""Stage one of the base model: labels that are true of the pixels, and a tower that learns from them."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from compalign.data.scenes import COLOURS, NOUNS, SIZES, generate_scene
from compalign.scripts.scenes.base import BaseModelArguments, make_model, make_processor
from compalign.scripts.scenes.probe import colour_targets, fit, side_targets
from compalign.scripts.scenes.vision import IGNORED, LabelledScenes, SupervisedVision, VisionTrainer, zoom
from compalign.trainers.trainer import BaseArguments

PLAIN = LabelledScenes(40, "train", 64, 8, plain=40)
ZOOMED = LabelledScenes(400, "train", 64, 8)


def test_labels_are_those_of_the_scene():
    for seed in range(40):
        row, scene = PLAIN[seed], generate_scene(seed)
        labelled = [tuple(values) for values in row["objects"].tolist() if values[0] != IGNORED]
        assert labelled == [
            (
                NOUNS.index(item.noun),
                COLOURS.index(item.colour),
                SIZES.index(item.size),
                int(item.box(64)[0] + item.box(64)[2] > 64),
                int(item.box(64)[1] + item.box(64)[3] > 64),
            )
            for item in scene.objects
        ]
        shown = {noun for noun, _ in row["patches"].tolist()} - {len(NOUNS)}
        assert shown <= {noun for noun, *_ in labelled}


def test_a_zoom_keeps_whole_what_it_labels():
    zooms = [row for row in map(ZOOMED.__getitem__, range(400)) if (row["objects"][:, 0] != IGNORED).any()]
    assert len(zooms) == 400  # at least the object that is zoomed in on is there
    changed = [
        k
        for k in range(400)
        if not (ZOOMED[k]["pixels"] == LabelledScenes(400, "train", 64, 8, plain=400)[k]["pixels"]).all()
    ]
    assert 0.15 < len(changed) / 400 < 0.35
    for k in changed:
        objects = ZOOMED[k]["objects"]
        assert (objects[objects[:, 0] != IGNORED][:, 2] == IGNORED).all()  # sizes mean nothing in a zoom


@pytest.mark.parametrize("seed", range(6))
def test_a_zoom_moves_boxes_with_the_pixels(seed):
    image = Image.new("RGB", (64, 64))
    boxes, colours = [(8, 16, 24, 48), (40, 4, 50, 12)], [(255, 0, 0), (0, 0, 255)]
    for box, colour in zip(boxes, colours, strict=True):
        image.paste(colour, box)
    cut, moved = zoom(image, boxes, random.Random(seed))
    pixels, whole = np.asarray(cut), []
    for box, before, colour in zip(moved, boxes, colours, strict=True):
        blur_x, blur_y = (2 * (box[k + 2] - box[k]) / (before[k + 2] - before[k]) for k in (0, 1))  # of bicubic
        left, right = (int(edge) for edge in np.clip((box[0] + blur_x, box[2] - blur_x), 0, 64))
        top, bottom = (int(edge) for edge in np.clip((box[1] + blur_y, box[3] - blur_y), 0, 64))
        assert (pixels[top:bottom, left:right] == colour).all()
        whole.append(right > left and bottom > top)
    assert any(whole)
    if moved[0] == (0, 0, 64, 64):  # a zoom on the first alone leaves the other beyond the image
        assert moved[1][0] >= 64


def test_the_tower_learns_and_its_heads_leave_it_as_clip(tmp_path):
    shape = BaseModelArguments(vision_width=32, vision_mlp_width=64, vision_layers=2)
    model = make_model(shape, make_processor(shape).tokenizer)
    before = {name: value.clone() for name, value in model.vision_model.state_dict().items()}
    args = BaseArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        learning_rate=3e-3,
        per_device_train_batch_size=16,
        logging_steps=4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
    )
    trainer = VisionTrainer(SupervisedVision(model.vision_model), args, LabelledScenes(192, "train", 64, 8, plain=96))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    changed = [name for name, value in model.vision_model.state_dict().items() if not value.equal(before[name])]
    assert {name for name in before if "position_ids" not in name} == set(changed)


def test_a_linear_probe_finds_what_is_there_and_nothing_else():
    torch.manual_seed(0)
    scenes = [generate_scene(seed, 2) for seed in range(3000)]
    features = torch.stack([colour_targets(scene) for scene in scenes])
    sides = torch.stack([side_targets(scene) for scene in scenes])
    known = torch.cat([features, sides.nan_to_num(0.5)], 1)
    right = fit(known[:2500], sides[:2500])(known[2500:]) > 0
    asked = ~sides[2500:].isnan()
    assert (right[asked] == sides[2500:][asked].bool()).float().mean() > 0.95
    blind = fit(torch.randn(2500, 20), sides[:2500])(torch.randn(500, 20)) > 0
    assert abs((blind[asked] == sides[2500:][asked].bool()).float().mean() - 0.5) < 0.08
