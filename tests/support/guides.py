"""The folder in which the guides run: small stand-ins for the models, photographs and files that they name.

A model that a guide names by its Hub id is a folder of that name here, which `from_pretrained` finds first.
"""

import csv
import json
import random
import re
import shutil
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import tiny_multimodal
import torch
from transformers import AutoProcessor, YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

from compalign.data import NegativeGenerator
from compalign.data.scenes import (
    NEGATIVE_KINDS,
    Scene,
    composition_items,
    full_caption,
    generate_scene,
    questions,
    render,
)
from compalign.evaluation import Benchmark, CocoVal2017Retrieval, evaluate_model
from compalign.evaluation.benchmarks.sugarcrepe import SIZES
from compalign.hub_cards import write_card
from compalign.modeling import DeGLACLIPModel

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
CLIP, LLAVA, DETECTOR = "openai/clip-vit-base-patch32", "llava-hf/llava-1.5-7b-hf", "facebook/detr-resnet-50"
IMAGES, CAPTIONS = "coco/val2017", "captions_val2017.json"
FROM_THE_REPOSITORY = ("trainers", "scripts", "hub_cards")
PAIRS, PHOTOGRAPHS, ITEMS_PER_KIND = 32, 16, 6


class Block(NamedTuple):
    """A fenced block of a guide: its language, its text, and the paragraph before it."""

    language: str
    text: str
    before: str


def read_blocks(guide: Path) -> list[Block]:
    """The fenced blocks of a guide, in order."""
    text = guide.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text[: found.start()].rstrip().rpartition("\n\n")[2])
        for found in FENCE.finditer(text)
    ]


def make_folder(folder: Path, repository: Path) -> None:
    """Write everything that the guides expect to exist."""
    for name in FROM_THE_REPOSITORY:
        (folder / name).symlink_to(repository / name)
    shutil.copytree(repository / "hub_cards" / "released" / "scenes_base", folder / CLIP)
    _write_pairs(folder)
    _write_coco(folder)
    _write_map(folder / "vl_compo_results.csv")
    _write_tuned(folder / "runs" / "tuned", folder / CLIP, CocoVal2017Retrieval(folder / CAPTIONS, folder / IMAGES))
    _write_others(folder)


def _write_tuned(folder: Path, base: Path, benchmark: Benchmark) -> None:
    """Write a model such as DeGLA could make of the dual encoder, with its results and its card."""
    model, processor = DeGLACLIPModel.from_pretrained(base), AutoProcessor.from_pretrained(base)
    noise = torch.randn(model.visual_projection.weight.shape, generator=torch.Generator().manual_seed(0))
    model.visual_projection.weight.data += 0.02 * noise
    for part in (model, processor):
        part.save_pretrained(folder)
    results = evaluate_model(model, processor, [benchmark], name="tuned", progress=False)
    results.to_json(folder / "results.json")
    write_card(folder, "degla", results, {"learning_rate": 1e-6}, base_model=CLIP)


def _write_others(folder: Path) -> None:
    """Write a LLaVA, and a detector that finds something in every image."""
    for part in (tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava")):
        part.save_pretrained(folder / LLAVA)
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    detector = YolosForObjectDetection(YolosConfig(**tower, image_size=[32, 32], patch_size=8, num_detection_tokens=3))
    torch.nn.init.constant_(detector.class_labels_classifier.layers[-1].bias[:1], 9.0)
    detector.save_pretrained(folder / DETECTOR)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / DETECTOR)


def _draw(scene: Scene, path: Path) -> None:
    """Write a scene as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    render(scene).save(path)


def _write_pairs(folder: Path) -> None:
    """Write `captions.jsonl`, `heldout.jsonl` with negatives, and `conversations.json`, on images in `photos`."""
    generator, captions, heldout, conversations = NegativeGenerator(num_negatives=1), [], [], []
    for seed in range(PAIRS):
        scene, rng, name = generate_scene(seed, num_objects=2), random.Random(seed), f"{seed:04d}.png"
        _draw(scene, folder / "photos" / name)
        captions.append({"image": f"photos/{name}", "caption": full_caption(scene, rng).text})
        (negatives,) = generator.propose([captions[-1]["caption"]])
        heldout.append({**captions[-1], "negative_captions": [negative.text for negative in negatives]})
        turns = [
            turn
            for asked in questions(scene, rng)[:2]
            for turn in ({"from": "human", "value": asked.text}, {"from": "gpt", "value": asked.answer})
        ]
        turns[0]["value"] = f"<image>\n{turns[0]['value']}"
        conversations.append({"id": str(seed), "image": name, "conversations": turns})
    for file, rows in (("captions.jsonl", captions), ("heldout.jsonl", heldout)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "conversations.json").write_text(json.dumps(conversations))


def _write_coco(folder: Path) -> None:
    """Write SugarCrepe in its official size, from a few repeated items, and captions of COCO."""
    images = folder / IMAGES
    (folder / "sugar-crepe" / "data").mkdir(parents=True)
    number = 0
    for kind, name in zip(NEGATIVE_KINDS, SIZES, strict=True):
        items = []
        for item in composition_items(kind, ITEMS_PER_KIND):
            number += 1
            file = f"{number:012d}.jpg"
            _draw(item.scene, images / file)
            items.append({"filename": file, "caption": item.caption, "negative_caption": item.negative})
        repeated = dict(enumerate(islice(cycle(items), SIZES[name])))
        (folder / "sugar-crepe" / "data" / f"{name}.json").write_text(json.dumps(repeated))
    coco: dict[str, list[dict]] = {"images": [], "annotations": []}
    for number in range(1, PHOTOGRAPHS + 1):
        scene, file = generate_scene(number, num_objects=2, split="test"), f"{1000 + number:012d}.jpg"
        _draw(scene, images / file)
        coco["images"].append({"id": number, "file_name": file})
        coco["annotations"] += [
            {"id": 5 * number + k, "image_id": number, "caption": full_caption(scene, random.Random(k)).text}
            for k in range(5)
        ]
    (folder / CAPTIONS).write_text(json.dumps(coco))


def _write_map(path: Path) -> None:
    """Write a file with the columns of the map."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("arch", "pretrained", "family", "sugarcrepe", "imagenet", "21_tasks_avg", "comp_avg"))
        writer.writerow(("NegCLIP", "coco-ft", "StructuredCLIP", 83.7, 60.9, 55.9, 47.9))
        writer.writerow(("ViT-B-32", "openai", "OpenCLIP", 73.0, 63.3, 57.1, 41.2))
