"""A model trained with CAL runs in lmms-eval as it is."""

import importlib.resources
import importlib.util
import json
import os
import subprocess
import sys

import pytest
import tiny_multimodal as tiny
from transformers import LlavaForConditionalGeneration

from compalign.evaluation.benchmarks.scene_questions import SceneQuestions
from compalign.modeling import LlavaCALConfig, LlavaCALForConditionalGeneration

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lmms_eval") is None, reason="needs lmms-eval")

TOKENS = 4
UTILS = """
def image(doc):
    return [doc["image"].convert("RGB")]


def question(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""
TASK = """
task: scene_questions
dataset_path: {folder}/data
test_split: test
output_type: generate_until
doc_to_visual: !function utils.image
doc_to_text: !function utils.question
doc_to_target: "answer"
generation_kwargs: {{max_new_tokens: {tokens}, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def processor():
    """With the chat template that our recipes train with."""
    processor = tiny.make_processor("llava")
    template = importlib.resources.files("compalign.trainers") / "templates" / "vicuna_v1.jinja"
    processor.chat_template = template.read_text()
    return processor


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory):
    """What training leaves behind."""
    folder = tmp_path_factory.mktemp("lmms")
    plain = tiny.make_model("llava")
    model = LlavaCALForConditionalGeneration(LlavaCALConfig(**{**plain.config.to_dict(), "model_type": "llava_cal"}))
    model.load_state_dict(plain.state_dict())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def said(model, processor, image, question):
    """The model's greedy answer."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=text, images=[image], return_tensors="pt")
    output = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS, pad_token_id=tiny.PAD)
    return processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def write_task(folder, rows):
    """A local data set and the task that asks its questions."""
    import datasets

    features = {
        "image": datasets.Image(),
        "question": datasets.Value("string"),
        "answer": datasets.Value("string"),
    }
    (folder / "data").mkdir()
    (folder / "tasks").mkdir()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(folder / "data" / "test.parquet")
    (folder / "tasks" / "utils.py").write_text(UTILS)
    (folder / "tasks" / "scene_questions.yaml").write_text(TASK.format(folder=folder, tokens=TOKENS))


def test_lmms_eval_asks_and_counts_as_we_do(checkpoint, processor, tmp_path):
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint).eval()
    benchmark = SceneQuestions(scenes=2, image_size=48)
    images = [benchmark.images[scene] for scene in benchmark.scene_of]
    questions = [question.text for question in benchmark.asked]
    answers = [said(model, processor, image, text) for image, text in zip(images, questions, strict=True)]
    # Every third row asks for what the model does say.
    rows = [
        {"image": image, "question": text, "answer": answer if place % 3 == 0 else "zebra"}
        for place, (image, text, answer) in enumerate(zip(images, questions, answers, strict=True))
    ]
    write_task(tmp_path, rows)
    # A process of its own: lmms-eval silences warnings and takes over logging.
    command = [sys.executable, "-m", "compalign.scripts.cli", "lmms", "--tasks", "scene_questions"]
    command += ["--model_args", f"pretrained={checkpoint},device=cpu,device_map=cpu,dtype=float32"]
    command += ["--include_path", tmp_path / "tasks", "--batch_size", "1", "--log_samples"]
    done = subprocess.run(
        [*command, "--output_path", tmp_path / "out"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "out").rglob("*_results.json")
    (samples,) = (tmp_path / "out").rglob("*_samples_scene_questions.jsonl")
    outputs = [json.loads(line) for line in samples.read_text().splitlines()]
    found = {sample["doc_id"]: sample["filtered_resps"] for sample in outputs}
    assert [found[place] for place in range(len(rows))] == answers
    scores = json.loads(results.read_text())["results"]["scene_questions"]
    assert scores["exact_match,none"] == pytest.approx(len(rows[::3]) / len(rows))
