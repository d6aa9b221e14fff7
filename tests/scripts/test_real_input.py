"""The entry points on real photographs and human captions, and the evaluation of what they trained."""

import json
import shutil

import pytest
import tiny
import torch
from launch import succeed
from transformers import AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from compalign.data.tokenization import clip_tokenizer_from_bpe
from compalign.scripts import cli


@pytest.fixture(scope="module")
def start(shared, tmp_path_factory) -> str:
    """A tiny CLIP with CLIP's own vocabulary."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = clip_tokenizer_from_bpe(shared / "data" / "clip_bpe" / "bpe_simple_vocab_16e6.txt.gz")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={**tower, "vocab_size": len(tokenizer)},
            vision_config={**tower, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    ).save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pixels, tokenizer).save_pretrained(folder)
    return str(folder)


def train(repository, method, photographs, start, output, *flags) -> str:
    """Run an entry point as a user does."""
    arguments = {
        "--config": repository / "scripts" / "recipes" / f"{method}_coco.yaml",
        "--model": start,
        "--train": photographs / "captions_val2017.json",
        "--images": photographs / "images_256",
        "--only": photographs / "train.txt",
        "--negatives": "rules",
        "--output_dir": output,
        "--per_device_train_batch_size": 8,
        "--dataloader_num_workers": 0,
        "--max_steps": 3,
        "--learning_rate": 1e-3,  # the published rate is too small to show in three steps
        "--use_cpu": "true",
    }
    flat = [part for pair in arguments.items() for part in pair]
    return succeed(f"trainers/train_{method}.py", *flat, *flags).stdout


@pytest.mark.parametrize("method", tiny.METHODS)
def test_entry_point_trains_on_photographs_and_its_model_is_evaluated(method, repository, shared, start, tmp_path):
    photographs = shared / "data" / "coco_by"
    printed = train(repository, method, photographs, start, tmp_path / method)
    assert "peak_memory_bytes" in printed
    assert "train_samples_per_second" in printed
    record = json.loads((tmp_path / method / "run.json").read_text())
    assert record["arguments"]["max_steps"] == 3
    assert record["start"] == start
    model = AutoModel.from_pretrained(tmp_path / method)
    before = AutoModel.from_pretrained(start)
    moved = [
        name for name, value in before.named_parameters() if not torch.equal(value, model.get_parameter(name).data)
    ]
    assert len(moved) == len(list(before.named_parameters()))
    flags = [
        "--benchmarks",
        f"sugarcrepe:annotations={photographs / 'sugarcrepe'},images={photographs / 'images_256'}",
    ]
    assert (
        cli.main(["evaluate", "--models", str(tmp_path / method), *flags, "--output_dir", str(tmp_path / "out")]) == 0
    )
    results = json.loads((tmp_path / "out" / method / "results.json").read_text())
    assert results["benchmarks"]["sugarcrepe"]["n_found"] == 255
    assert (tmp_path / "out" / "chart.png").stat().st_size > 10_000


def test_negatives_command_writes_what_the_trainers_read(shared, start, repository, tmp_path):
    photographs = shared / "data" / "coco_by"
    folder = shutil.copytree(photographs / "images_256", tmp_path / "photographs")
    source = ["--captions", str(photographs / "captions_val2017.json"), "--images", str(folder)]
    output = folder / "negatives.jsonl"
    assert cli.main(["negatives", *source, "--output", str(output), "--only", str(photographs / "train.txt")]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 310
    assert sum(bool(row["negative_captions"]) for row in rows) > 290
    flags = ["--train", str(output), "--images", str(folder), "--negatives", "dataset"]
    printed = train(repository, "degla", photographs, start, tmp_path / "model", *flags)
    assert "train_loss" in printed
