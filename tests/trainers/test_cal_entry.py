"""The CAL entry point as users start it: recipes, one and two processes, DeepSpeed, adapters, assembled models."""

import importlib.util
import json

import pytest
import tiny_cal
import torch
from launch import REPOSITORY, TWO_PROCESSES, succeed
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from compalign.trainers import CALArguments
from compalign.trainers.launch.cal import ConversationDataArguments, ConversationModelArguments
from compalign.trainers.launch.recipe import parse_recipe

RECIPES = sorted((REPOSITORY / "scripts" / "recipes").glob("cal_*.yaml"))
KINDS = (ConversationModelArguments, ConversationDataArguments, CALArguments)
EXIT = "os._exit(0)"  # threads that DeepSpeed leaves behind on gloo may abort an interpreter that winds up
SMALL = ["--scenes", "40", "--max_steps", "2", "--per_device_train_batch_size", "4", "--logging_steps", "1"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_fill_the_arguments(recipe):
    flags = ["--config", str(recipe), "--use_cpu", "true", "--bf16", "false"]
    if "deepspeed" in recipe.read_text():
        pytest.importorskip("deepspeed", reason="the recipe names a DeepSpeed configuration")
    start, data, args = parse_recipe(*KINDS, arguments=flags)
    assert sum(map(bool, (data.train, data.scenes, data.scene_texts))) == 1
    for path in (start.chat_template, args.deepspeed):
        assert path is None or (REPOSITORY / path).exists()
    if "pretrain" in recipe.stem:
        assert args.train_parts == ["projector"]
        assert args.learning_rate == 1e-3


def test_two_processes_train_as_one(tmp_path):
    """8 x 1 rows of one process, 4 of each of two, and the same in micro-batches."""
    folders = {name: tmp_path / name for name in ("one", "two", "cut")}
    tiny_cal.main("8", "1", str(folders["one"]))
    script = tiny_cal.__file__
    succeed(*TWO_PROCESSES, script, 4, 1, folders["two"])
    succeed(*TWO_PROCESSES, script, 2, 2, folders["cut"])
    expected = LlavaForConditionalGeneration.from_pretrained(folders["one"]).state_dict()
    for name in ("two", "cut"):
        actual = LlavaForConditionalGeneration.from_pretrained(folders[name]).state_dict()
        for key, value in expected.items():
            torch.testing.assert_close(actual[key], value, rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
        logs = [torch.load(folders[folder] / "log.pt", weights_only=True) for folder in ("one", name)]
        assert logs[1][0]["loss"] == pytest.approx(logs[0][0]["loss"], rel=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra [deepspeed]")
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_trains_as_one_process(tmp_path, stage):
    tiny_cal.main("8", "1", str(tmp_path / "one"))
    config = REPOSITORY / "scripts" / "deepspeed" / f"zero{stage}.json"
    succeed(*TWO_PROCESSES, tiny_cal.__file__, 4, 1, tmp_path / "two", "--deepspeed", config, DS_ACCELERATOR="cpu")
    logs = [torch.load(tmp_path / folder / "log.pt", weights_only=True) for folder in ("one", "two")]
    for one, two in zip(logs[0][:2], logs[1][:2], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["weight"] == pytest.approx(one["weight"], rel=0.2)  # of the first process's rows only


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the shipped recipe after two steps."""
    folder = tmp_path_factory.mktemp("cal") / "model"
    recipe = ["--config", "scripts/recipes/cal_scenes.yaml"]
    done = succeed("trainers/train_cal.py", *recipe, *SMALL, "--output_dir", folder)
    assert "train_samples_per_second" in done.stdout
    return folder


def test_the_shipped_recipe_writes_a_model_that_answers(trained):
    model, processor = AutoModelForImageTextToText.from_pretrained(trained), AutoProcessor.from_pretrained(trained)
    assert type(model).__name__ == "LlavaCALForConditionalGeneration"
    row = tiny_cal.make_rows(1)[0]
    text = processor.apply_chat_template(row["messages"][:1], add_generation_prompt=True)
    inputs = processor(text=text, images=row["images"], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1]
    assert json.loads((trained / "config.json").read_text())["cal_clamp"] == [1.0, 5.0]


def test_tokens_are_shown_with_their_weights(trained, tmp_path, capsys):
    from compalign.scripts.tokens import main

    image = tmp_path / "image.png"
    tiny_cal.make_rows(1)[0]["images"][0].resize((64, 64)).save(image)
    flags = ["--model", str(trained), "--image", str(image), "--text", "a red cat above a blue star"]
    weights = main([*flags, "--output_dir", str(tmp_path / "out")])
    assert [token for token, _, _ in weights] == [*["a", "red", "cat", "above", "a", "blue", "star"], "</s>"]
    assert all(1 <= weight <= 5 for _, _, weight in weights)
    assert (tmp_path / "out" / "tokens.png").stat().st_size > 10_000
    page = (tmp_path / "out" / "tokens.html").read_text()
    assert page.count("<span") == len(weights)
    assert "cat" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra [deepspeed]")
def test_an_assembled_model_trains_under_zero3_as_under_ddp(tmp_path):
    """Its parts are put together before they are sharded; the loss of two steps is the same."""
    recipe = ["trainers/train_cal.py", "--config", "scripts/recipes/cal_scenes.yaml", *SMALL]
    losses = []
    for name, flags in (("ddp", []), ("zero3", ["--deepspeed", "scripts/deepspeed/zero3.json"])):
        folder = tmp_path / name
        script = (
            f"import os, runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__'); {EXIT}"
        )
        (tmp_path / "run.py").write_text(script)
        succeed(*TWO_PROCESSES, tmp_path / "run.py", *recipe, "--output_dir", folder, *flags, DS_ACCELERATOR="cpu")
        losses.append(json.loads((folder / "train_results.json").read_text())["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("given", [{}, {"scenes": 4, "scene_texts": 4}, {"train": ["a.json"], "scenes": 4}])
def test_rows_come_from_one_source(given, tmp_path):
    from compalign.trainers import CALArguments
    from compalign.trainers.launch.cal import ConversationDataArguments, training_rows

    with pytest.raises(ValueError, match="give exactly one of train, scenes and scene_texts, got train="):
        training_rows(ConversationDataArguments(**given), CALArguments(output_dir=str(tmp_path)))
