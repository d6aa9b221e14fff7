"""The header of a card is what the Hub reads: its evaluation goes through the Hub's own parser and back unchanged."""

import json

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from compalign.evaluation import Results
from compalign.hub_cards import render_card
from compalign.hub_cards.render import eval_results, shown_scores

METHODS = ("base", "ceclip", "degla", "negclip")


@pytest.fixture(scope="module")
def results(repository) -> Results:
    """Of the released model."""
    return Results.from_json(repository / "hub_cards" / "released" / "scenes_base" / "results.json")


@pytest.fixture(params=METHODS)
def card(request, results, tmp_path) -> ModelCard:
    """Read back from the file, as the Hub does."""
    path = tmp_path / "README.md"
    path.write_text(render_card(request.param, results, {"seed": 0}, model_id="me/model"), encoding="utf-8")
    return ModelCard.load(path)


def test_evaluation_survives_the_hubs_parser_both_ways(card, results):
    expected = eval_results(results)
    assert len(expected) == len(shown_scores(results)) > 0
    assert card.data.eval_results is not None
    assert {key(entry): entry.metric_value for entry in card.data.eval_results} == {
        key(entry): entry.metric_value for entry in expected
    }
    index = eval_results_to_model_index(card.data.model_name, card.data.eval_results)
    assert model_index_to_eval_results(index) == (card.data.model_name, card.data.eval_results)


def key(entry: EvalResult) -> tuple:
    """All that names a number."""
    return entry.task_type, entry.dataset_type, entry.dataset_name, entry.metric_type, entry.metric_name


def test_every_entry_has_what_the_hub_asks_for(card):
    header = yaml.safe_load(card.content.split("---\n")[1])
    (model,) = header["model-index"]
    assert model["name"] == "model"
    assert json.loads(json.dumps(header)) == header  # plain values: no tag of Python, no date
    for entry in model["results"]:
        assert entry["task"]["type"] == "zero-shot-image-classification"
        assert {"name", "type"} <= set(entry["dataset"])
        assert all({"type", "value"} <= set(metric) for metric in entry["metrics"])
        assert all(isinstance(metric["value"], float) and 0 <= metric["value"] <= 1 for metric in entry["metrics"])


def test_no_two_numbers_have_the_same_name(card):
    entries = [key(entry) for entry in card.data.eval_results]
    assert len(entries) == len(set(entries))
