"""Twenty steps on real photographs with human captions and on NLVR's real sentences, from files in LLaVA's format."""

import json
import zipfile

import pytest
import tiny_multimodal
from launch import succeed

ROWS = 100


def two_turns(name, image, question, answer):
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": str(name), "image": str(image), "conversations": turns}


def photographs(shared, folder):
    """COCO captions as conversations; images stay where they are."""
    coco = json.loads((shared / "data" / "coco_by" / "captions_val2017.json").read_text())
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    rows = [
        two_turns(caption["id"], files[caption["image_id"]], "Describe the image.", caption["caption"].strip())
        for caption in coco["annotations"][:ROWS]
    ]
    return rows, shared / "data" / "coco_by" / "images_256"


def sentences(shared, folder):
    """NLVR's sentences as questions; images unpacked."""
    lines = [json.loads(line) for line in (shared / "data" / "nlvr" / "dev.jsonl").read_text().splitlines()[:ROWS]]
    with zipfile.ZipFile(shared / "data" / "nlvr" / "dev_images.zip") as archive:
        for line in lines:
            archive.extract(line["image"], folder)
    return [
        two_turns(number, line["image"], f"True or false? {line['sentence']}", str(line["label"]).lower())
        for number, line in enumerate(lines)
    ], folder


@pytest.mark.parametrize("source", [photographs, sentences])
def test_twenty_steps(source, shared, tmp_path):
    rows, images = source(shared, tmp_path / "images")
    broken = two_turns("broken", "missing.jpg", "What is it?", "nothing")
    (tmp_path / "rows.json").write_text(json.dumps([*rows, broken]))
    tiny_multimodal.make_model("llava").save_pretrained(tmp_path / "start")
    tiny_multimodal.make_processor("llava").save_pretrained(tmp_path / "start")
    command = ["trainers/train_cal.py", "--model", tmp_path / "start", "--train", tmp_path / "rows.json"]
    command += ["--images", images, "--output_dir", tmp_path / "out", "--max_steps", "20", "--use_cpu", "true"]
    command += ["--per_device_train_batch_size", "4", "--learning_rate", "0.01", "--logging_steps", "5"]
    command += ["--group_by_modality", "true", "--report_to", "none"]
    done = succeed(*command)
    assert "missing.jpg" in done.stderr
    logs = [
        log for log in json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"] if "loss" in log
    ]
    assert logs[-1]["loss"] < logs[0]["loss"]
    assert all(1 <= log["weight"] <= 5 for log in logs)
