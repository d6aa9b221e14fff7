"""A card says what the results, the recipe and the facts say, runs as it stands, and gives nothing else away."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from tiny import METHODS, make_model, make_processor

from compalign.evaluation import BenchmarkResult, Results, Score
from compalign.hub_cards import read_facts, render_card, write_card
from compalign.hub_cards.render import FOLDER, SHOWN_ARGUMENTS
from compalign.scripts.scenes.base import BaseModelArguments
from compalign.trainers import CALArguments, CECLIPArguments, ComAlignArguments, DeGLAArguments, NegCLIPArguments
from compalign.trainers.dual_encoder import DualEncoderArguments
from compalign.trainers.launch.cal import ConversationDataArguments, ConversationModelArguments
from compalign.trainers.launch.comalign import ComponentDataArguments, ComponentModelArguments
from compalign.trainers.launch.dual_encoders import DataArguments

CARDS = {
    "base": (BaseModelArguments,),
    "cal": (CALArguments, ConversationModelArguments, ConversationDataArguments),
    "ceclip": (CECLIPArguments,),
    "comalign": (ComAlignArguments, ComponentModelArguments, ComponentDataArguments),
    "degla": (DeGLAArguments,),
    "negclip": (NegCLIPArguments,),
}
# They say where things lie, or what fits into memory.
NOT_SHOWN = {"backbone", "backbone_revision", "chat_template", "chunk", "encode_batch_size", "features", "images"}
NOT_SHOWN |= {"language_model", "loss_chunk", "model", "train", "vision_tower"}
CANARY = "canary"
RECIPE = {"max_steps": 300, "learning_rate": 5e-4, "crop_scale": None, "seed": 0}
BLIND = {"shorter text": {"strict": 0.1, "half_credit": 0.512, "tie_rate": 0.2, "n": 300}}


def make_results(model: str, swap: float = 0.583, zero_shot: float = 0.825, content_hash: str = "abc") -> Results:
    """One benchmark of caption choices with a score that tables do not show, zero-shot, and retrieval."""

    def score(value, **choice):
        return Score(value, 300, (value - 0.031, value + 0.027), 0.5, **choice)

    choice = score(swap, tie_rate=0.0, half_credit=swap, baselines=BLIND)
    scores = {
        "scenes_composition": ({"swap_object": "swap obj"}, {"swap_object": choice, "hidden": score(0.123)}),
        "scenes_zero_shot": ({"top1": "zero-shot"}, {"top1": score(zero_shot)}),
        "scenes_retrieval": ({"image_to_text_recall_1": "I2T R@1"}, {"image_to_text_recall_1": score(0.371)}),
    }
    return Results(
        model,
        {
            name: BenchmarkResult(
                "Generated scenes",
                columns,
                values,
                300,
                300,
                content_hash,
                ability="composition" if name == "scenes_composition" else "recognition",
            )
            for name, (columns, values) in scores.items()
        },
        activation={"text": "quick_gelu", "vision": "gelu"},
        dtype="float32",
        preprocessing={"image": {"do_resize": True, "size": {"height": 64}}, "text": {"padding": "longest"}},
        encoded={"texts_truncated": 0},
        versions={"torch": "2.13.0"},
        seconds=1.0,
        created="2026-01-01T00:00:00+00:00",
    )


def cells(card: str, first: str) -> list[list[str]]:
    """Rows of the card's Markdown tables that start with a cell, without it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    return [row[1:] for row in rows if row[0] == first]


# The usage snippet


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A folder with a tiny model of each class, its processor and its card."""
    folder = tmp_path_factory.mktemp("published")
    for method, (model_class, *_) in METHODS.items():
        make_model(model_class).save_pretrained(folder / method)
        make_processor().save_pretrained(folder / method)
        write_card(folder / method, method, make_results(method), RECIPE)
    return folder


def test_usage_snippets_run_as_they_stand_without_this_package(published):
    program = """
        import json, os, re, sys
        sys.modules["compalign"] = None  # an import of it fails from here on
        printed = {}
        for folder in sys.argv[1:]:
            os.chdir(folder)
            namespace = {}
            exec(re.search("```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1], namespace)
            printed[os.path.basename(folder)] = [type(namespace["model"]).__name__, namespace["scores"].tolist()]
        print(json.dumps(printed))
    """
    process = subprocess.run(
        [sys.executable, "-c", re.sub("(?m)^ {8}", "", program), *map(str, sorted(published.iterdir()))],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(published.parent / "cache")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    *captions, printed = process.stdout.splitlines()
    assert [line.split("  ")[1][:12] for line in captions] == ["a red diamon", "a red heart "] * len(METHODS)
    for method, (name, scores) in json.loads(printed).items():
        assert name == read_facts(method)["model_class"] == METHODS[method][0].__name__
        assert len(scores) == 2
        assert sum(scores) == pytest.approx(1)


def test_usage_snippet_names_the_hub_id_and_trusts_code_only_where_there_is_some():
    own_code = render_card("degla", make_results("a"), RECIPE, model_id="someone/tuned")
    assert 'AutoModel.from_pretrained("someone/tuned", trust_remote_code=True)' in own_code
    assert "trust_remote_code" not in render_card("negclip", make_results("a"), RECIPE)


# The header


@pytest.mark.parametrize("method", CARDS)
def test_header_survives_the_hubs_parser(method):
    card = render_card(
        method, make_results("a"), RECIPE, model_id="me/a", base_model="them/base", datasets=["them/captions"]
    )
    parsed = ModelCard(card)
    assert parsed.data.to_yaml() == yaml.safe_dump(yaml.safe_load(card.split("---\n")[1]), sort_keys=False).strip()
    assert (parsed.data.license, parsed.data.library_name) == ("apache-2.0", "transformers")
    assert parsed.data.pipeline_tag == read_facts(method)["pipeline_tag"]
    assert {entry.task_type for entry in parsed.data.eval_results} == {parsed.data.pipeline_tag}
    assert (parsed.data.base_model, parsed.data.datasets) == ("them/base", ["them/captions"])
    assert parsed.text.strip().startswith("# a\n")


def test_header_holds_the_exact_scores_that_tables_show_as_plain_numbers():
    results = make_results("a", swap=np.float64(1 / 3), zero_shot=np.float64(2 / 3))
    found = {
        (entry.dataset_type, entry.metric_name, entry.metric_type): entry.metric_value
        for entry in ModelCard(render_card("degla", results, RECIPE)).data.eval_results
    }
    assert found == {
        ("scenes_composition", "swap obj", "accuracy"): results.metrics["scenes_composition/swap_object"],
        ("scenes_zero_shot", "zero-shot", "accuracy"): results.metrics["scenes_zero_shot/top1"],
        ("scenes_retrieval", "I2T R@1", "recall"): 0.371,
    }
    assert {type(value) for value in found.values()} == {float}


def test_header_names_no_base_model_or_data_unless_they_are_on_the_hub():
    data = ModelCard(render_card("degla", make_results("a"), RECIPE)).data
    assert data.base_model is None
    assert data.datasets is None


@pytest.mark.parametrize("argument", ["model_id", "base_model", "datasets"])
def test_what_is_no_hub_id_is_refused(argument):
    path = "/home/someone/model"
    with pytest.raises(ValueError, match=path):
        render_card("degla", make_results("a"), RECIPE, **{argument: [path] if argument == "datasets" else path})


# The tables


def test_scores_stand_beside_the_base_model_with_interval_change_and_blind_baseline():
    card = render_card("degla", make_results("tuned", 0.7), RECIPE, make_results("base", zero_shot=0.8251))
    assert cells(card, "ability") == [["benchmark", "score", "base", "tuned", "change"]]
    swap = ["scenes_composition", "swap obj", "58.3 (55.2 to 61.0)", "70.0 (66.9 to 72.7)", "+11.7"]
    assert cells(card, "composition") == [swap]
    kept = [row[1:] for row in cells(card, "recognition")]
    assert kept[0] == ["zero-shot", "82.5 (79.4 to 85.2)", "82.5 (79.4 to 85.2)", "+0.0"]
    assert kept[1] == ["I2T R@1", "37.1 (34.0 to 39.8)", "37.1 (34.0 to 39.8)", "+0.0"]
    assert cells(card, "base") == [["58.3", "82.5", "37.1"]]
    assert cells(card, "tuned") == [["70.0", "82.5", "37.1"]]
    assert cells(card, "blind: shorter text") == [["51.2", "-", "-"]]


def test_a_score_that_the_base_model_lacks_has_no_change():
    base = make_results("base")
    del base.benchmarks["scenes_zero_shot"]
    card = render_card("degla", make_results("tuned"), RECIPE, base)
    assert cells(card, "recognition")[0][1:] == ["zero-shot", "-", "82.5 (79.4 to 85.2)", "-"]


def test_a_model_without_base_is_shown_alone():
    card = render_card("base", make_results("scenes"), RECIPE)
    assert cells(card, "ability") == [["benchmark", "score", "scenes"]]
    assert "fine-tuning should preserve" not in card


def test_further_models_stand_in_the_table_and_not_in_the_header():
    card = render_card("degla", [make_results("tuned"), make_results("other", 0.4)], RECIPE)
    assert cells(card, "other") == [["40.0", "82.5", "37.1"]]
    assert "name: tuned" in card
    assert "name: other" not in card


def test_results_on_different_items_are_refused():
    with pytest.raises(ValueError, match="different items"):
        render_card("degla", make_results("tuned"), RECIPE, make_results("base", content_hash="def"))


def test_card_says_how_inputs_were_made():
    card = render_card("degla", make_results("a"), RECIPE)
    assert "quick_gelu (text), gelu (vision)" in card
    assert '- Image: `do_resize` true, `size` {"height": 64}\n- Text: `padding` longest\n' in card


# The recipe


def test_recipe_shows_the_arguments_that_were_set():
    recipe = RECIPE | {"distillation_weight": 0.02, "lr_scheduler_type": "cosine", "crop_scale": [0.9, 1.0]}
    shown = dict(re.findall(r"(?m)^\| `(\w+)` \| (.*) \|$", render_card("degla", make_results("a"), recipe)))
    assert shown == {
        "max_steps": "300",
        "learning_rate": "0.0005",
        "lr_scheduler_type": "cosine",
        "seed": "0",
        "crop_scale": "[0.9, 1.0]",
        "distillation_weight": "0.02",
    }


def test_length_of_a_training_is_said_once():
    both = {"num_train_epochs": 5.0, "max_steps": 300}
    card = render_card("degla", make_results("a"), both)
    assert cells(card, "`max_steps`") == [["300"]]
    assert not cells(card, "`num_train_epochs`")
    card = render_card("degla", make_results("a"), both | {"max_steps": -1})
    assert cells(card, "`num_train_epochs`") == [["5.0"]]
    assert not cells(card, "`max_steps`")


@pytest.mark.parametrize("method", CARDS)
def test_no_path_name_or_token_reaches_the_card(method):
    shown = {*SHOWN_ARGUMENTS, *read_facts(method)["arguments"]}
    names = {field.name for kind in (DualEncoderArguments, DataArguments, BaseModelArguments) for field in fields(kind)}
    recipe = {name: f"/{CANARY}/{name}" for name in names - shown} | {"hub_token": f"hf_{CANARY}", "model": CANARY}
    models = make_results(f"/{CANARY}/runs/tuned/"), make_results(f"C:\\{CANARY}\\base")
    card = render_card(method, models[0], RECIPE | recipe, models[1])
    assert CANARY not in card
    assert cells(card, "ability")[0][2:4] == ["base", "tuned"]


@pytest.mark.parametrize("method", CARDS)
def test_every_argument_of_a_method_is_shown_under_its_real_name(method):
    """A new argument must appear on the card; a renamed one must not vanish from it."""
    common = {field.name for field in fields(DualEncoderArguments)}
    own = {field.name for kind in CARDS[method] for field in fields(kind)} - common - NOT_SHOWN
    facts = read_facts(method)
    assert own == {*facts["arguments"], *(term["weight"] for term in facts["terms"] if "weight" in term)}


def test_every_common_argument_exists():
    known = {field.name for kind in (NegCLIPArguments, DataArguments) for field in fields(kind)} | {"world_size"}
    assert set(SHOWN_ARGUMENTS) <= known


# The facts


def test_every_method_has_its_facts_and_no_other_name_does():
    assert {file.name for file in FOLDER.iterdir() if file.name.endswith(".yaml")} == {f"{name}.yaml" for name in CARDS}
    with pytest.raises(ValueError, match=r"'\.\./setup'; accepted: base, cal, ceclip, comalign, degla, negclip"):
        render_card("../setup", make_results("a"), RECIPE)


@pytest.mark.parametrize("method", CARDS)
def test_no_number_is_written_by_hand(method):
    facts = read_facts(method)
    prose = [facts["summary"], facts["objective"], facts["data"], *facts["limits"]]
    prose += [term["text"] for term in facts["terms"]]
    assert all(isinstance(text, str) for text in prose)
    assert not re.search(r"\d", " ".join(prose))
    templates = "".join(file.read_text(encoding="utf-8") for file in FOLDER.iterdir() if file.name.endswith(".md"))
    assert set(re.findall(r"\d+", re.sub(r"(?s)```.*?```|{[{%].*?[}%]}", "", templates))) == {"95"}


@pytest.mark.parametrize("method", CARDS)
def test_card_has_its_sections_and_citation_and_no_gaps(method):
    card = render_card(method, make_results("a"), RECIPE, data="Drawings of shapes.")
    facts = read_facts(method)
    sections = re.findall(r"(?m)^## (.*)$", card)
    assert sections == ["Use", "Evaluation", "Training", "Limits", "Citation"]
    assert card.endswith(f"```bibtex\n{facts['bibtex'].strip()}\n```\n")
    assert facts["paper"] in card
    assert "Drawings of shapes." in card
    assert "\n\n\n" not in card


def test_card_shows_the_chart_that_lies_beside_it():
    assert "![" not in render_card("degla", make_results("a"), RECIPE)
    card = render_card("degla", make_results("a"), RECIPE, chart="chart.png")
    assert len(re.findall(r"(?m)^!\[.+\]\(chart\.png\)$", card)) == 1
    assert "\n\n\n" not in card


def test_a_question_with_an_answer_is_an_ability_of_its_own():
    results = make_results("a")
    results.benchmarks = {"scenes_questions": results.benchmarks["scenes_zero_shot"]}
    card = render_card("cal", results, RECIPE)
    assert cells(card, "answers") == [["scenes_questions", "zero-shot", "82.5 (79.4 to 85.2)"]]
    assert "*Answers*" in card
    assert "*Composition*" not in card


def test_card_is_written_beside_the_weights(tmp_path):
    Path(tmp_path, "README.md").write_text("what was there before")
    write_card(tmp_path, "degla", make_results("tuned"), RECIPE, base_results=make_results("base"))
    expected = render_card("degla", make_results("tuned"), RECIPE, make_results("base"))
    assert Path(tmp_path, "README.md").read_text(encoding="utf-8") == expected
