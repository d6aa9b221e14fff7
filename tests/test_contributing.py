"""The recipes of CONTRIBUTING.md work: their code runs where they say that it belongs."""

import json
import re
import sys
from types import ModuleType

import numpy as np
import pytest
import tiny
import torch
from annotated import as_groups, touch_images, values
from guides import read_blocks
from transformers import CLIPModel

from compalign.data.readers import caption_formats, conversation_formats
from compalign.evaluation import CaptionChoice
from compalign.trainers import losses

NAMES = ("own_negative_hinge", "HingeTrainer", "LeftRight", "_true_false_row", 'Layout("dialogue"')


@pytest.fixture(scope="module")
def blocks(repository) -> dict[str, str]:
    """The Python blocks, by the name that each is about."""
    texts = [block.text for block in read_blocks(repository / "CONTRIBUTING.md") if block.language == "python"]
    return {name: text for name, text in zip(NAMES, texts, strict=True) if name in text}


def run_in(package: str, text: str, known: dict | None = None) -> dict:
    """Run a block as a module of a package of ours, with names that the module has already."""
    name = f"compalign.{package}._example"
    namespace = {"__name__": name, "__package__": f"compalign.{package}", **(known or {})}
    sys.modules[name] = ModuleType(name)  # dataclasses look it up
    try:
        exec(text, namespace)
    finally:
        del sys.modules[name]
    return namespace


@pytest.fixture
def hinge(blocks):
    return run_in("trainers", blocks["own_negative_hinge"], {"Tensor": torch.Tensor, "torch": torch})[
        "own_negative_hinge"
    ]


def test_every_recipe_has_its_code(blocks):
    assert set(blocks) == set(NAMES)


def test_the_loss_has_its_closed_forms(hinge):
    same = torch.nn.functional.normalize(torch.ones(2, 4), dim=-1)
    negative = same[:, None].expand(2, 3, 4)
    assert hinge(same, same, negative, margin=0.2).item() == pytest.approx(0.2)
    assert hinge(same, same, -negative).item() == 0
    assert hinge(same, same, negative, negative_mask=torch.zeros(2, 3)).item() == 0


def test_the_trainer_trains_and_logs_its_terms(blocks, hinge, monkeypatch, tmp_path):
    monkeypatch.setattr(losses, "own_negative_hinge", hinge, raising=False)
    example = run_in("trainers", blocks["HingeTrainer"])
    method = (CLIPModel, example["HingeTrainer"], example["HingeArguments"])
    monkeypatch.setitem(tiny.METHODS, "hinge", method)
    trainer = tiny.make_trainer("hinge", tmp_path, tiny.make_rows(8), max_steps=2)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["loss"] == pytest.approx(entry["contrast"] + 0.5 * entry["hinge"], rel=1e-3)  # the log is rounded
    assert [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])] == []


def test_the_benchmark_reads_its_schema_and_scores(blocks, tmp_path):
    benchmark_class = run_in("evaluation.benchmarks", blocks["LeftRight"])["LeftRight"]
    assert issubclass(benchmark_class, CaptionChoice)
    (example,) = re.findall(r'`(\{"filename".*?\})`', benchmark_class.__doc__, flags=re.DOTALL)
    record = json.loads(" ".join(example.split()))
    records = [{**record, "filename": f"{k}.jpg"} for k in range(3)]
    (tmp_path / "items.json").write_text(json.dumps(records))
    touch_images(tmp_path / "images", ["0.jpg", "1.jpg"])
    with pytest.raises(ValueError, match="minimum_coverage is 1"):
        benchmark_class(tmp_path / "items.json", tmp_path / "images")
    benchmark = benchmark_class(tmp_path / "items.json", tmp_path / "images", minimum_coverage=0.5)
    assert (benchmark.ability, benchmark.n_found, benchmark.n_listed) == ("composition", 2, 3)
    assert any(note.startswith("a subset: 3 of 500") for note in benchmark.notes)
    metrics, _ = benchmark.score(np.array(as_groups([[2, 1], [1, 1]])))
    assert values(metrics) == {"side": 1 / 2}
    assert set(benchmark.columns) <= set(metrics)


def test_the_formats_map_their_records(blocks):
    readers = vars(caption_formats)
    example = run_in("data.readers", blocks["_true_false_row"], {**readers})
    record = {"photo": "1.jpg", "true": "a cat", "false": ["a dog"]}
    row = caption_formats.check_row(example["_true_false_row"](record))
    assert (row.image, row.caption, row.negatives) == ("1.jpg", "a cat", ["a dog"])
    with pytest.raises(caption_formats.RowProblem, match="empty caption"):
        caption_formats.check_row(example["_true_false_row"]({**record, "true": " "}))
    assert caption_formats.Layout(example["_true_false_row"], "photo").image_column == "photo"

    layout = eval(blocks['Layout("dialogue"'], vars(conversation_formats))
    turns = [{"who": "person", "says": "<image>what is it?"}, {"who": "model", "says": "a cat"}]
    found = conversation_formats.read_conversation({"dialogue": turns}, layout, ["1.jpg"])
    assert [message["role"] for message in found.messages] == ["user", "assistant"]


def test_files_and_names_in_the_recipes_exist(repository):
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    new = {"hinge", "left_right", "<method>"}
    named = re.findall(r"`((?:modeling|data|trainers|evaluation|hub_cards|scripts|tests|docs)/[\w/.<>]*)`?", text)
    assert len(named) > 20
    missing = [name for name in named if not any(part in name for part in new) and not (repository / name).exists()]
    assert missing == []
