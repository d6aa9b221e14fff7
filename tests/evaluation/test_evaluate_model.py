"""From a model to results: shared references are encoded once, and the record is complete and plain."""

import json

import numpy as np
import pytest

from compalign.evaluation import (
    BENCHMARKS,
    Benchmark,
    Results,
    SceneComposition,
    SceneRetrieval,
    SceneZeroShot,
    SugarCrepe,
    encode_references,
    evaluate_model,
)


class SameScenes(SceneComposition):
    """The same items under another name."""

    name = "same_scenes"


def small(*extra: Benchmark) -> list[Benchmark]:
    return [SceneComposition(count=4), SceneZeroShot(count=8), SceneRetrieval(count=6), *extra]


def evaluate(model, processor, benchmarks, **options) -> Results:
    return evaluate_model(model, processor, benchmarks, progress=False, **options)


def test_a_benchmark_that_shares_its_references_costs_nothing(model, processor, counts):
    alone = evaluate(model, processor, [SceneComposition(count=4)])
    spent = dict(counts)
    counts.clear()
    together = evaluate(model, processor, [SceneComposition(count=4), SameScenes(count=4)])
    assert dict(counts) == spent
    first, second = together.benchmarks.values()
    assert first.scores == second.scores == alone.benchmarks["scenes_composition"].scores
    assert first.content_hash == second.content_hash
    assert together.encoded["images_requested"] == 2 * alone.encoded["images_requested"]


def test_several_benchmarks_together_score_as_each_alone(model, processor):
    together = evaluate(model, processor, small())
    for benchmark in small():
        alone = evaluate(model, processor, [benchmark]).benchmarks[benchmark.name]
        assert together.benchmarks[benchmark.name] == alone


def test_scores_do_not_depend_on_the_batch_size(model, processor):
    few, many = (evaluate(model, processor, small(), batch_size=size) for size in (3, 256))
    assert few.metrics == many.metrics
    for name, result in many.benchmarks.items():
        for row, other in zip(result.rows, few.benchmarks[name].rows, strict=True):
            # Float32 rounding of cosines.
            assert row.get("scores", [0]) == pytest.approx(other.get("scores", [0]), abs=2e-6)


def test_sugarcrepe_on_photographs_equals_a_plain_loop(model, processor, shared):
    coco = shared / "data" / "coco_by"
    benchmark = SugarCrepe(coco / "sugarcrepe", coco / "images_256")
    results = evaluate(model, processor, [benchmark])
    result = results.benchmarks["sugarcrepe"]
    assert (results.encoded["images_requested"], results.encoded["images_encoded"]) == (255, 50)
    assert (results.encoded["texts_requested"], results.encoded["texts_encoded"]) == (510, len(set(benchmark.texts)))
    for position in range(0, 255, 50):
        item, row = benchmark.items[position], result.rows[position]
        plain = encode_references(model, processor, [item.image], item.captions, batch_size=1, progress=False)
        expected = plain.text_features @ plain.image_features[0]
        np.testing.assert_allclose(row["scores"], expected.numpy(), atol=2e-6)
    hits = [row["correct"] for row in result.rows if row["kind"] == "swap_att"]
    assert results.metrics["sugarcrepe/swap_att"] == np.mean(hits)


def test_the_settings_that_change_scores_are_recorded(model, processor):
    model.config.vision_config.hidden_act = "gelu"
    results = evaluate(model.bfloat16(), processor, [SceneZeroShot(count=8)], name="mine")
    assert (results.model, results.dtype) == ("mine", "bfloat16")
    assert results.activation == {"text": "quick_gelu", "vision": "gelu"}
    assert results.preprocessing["image"]["crop_size"] == {"height": 32, "width": 32}
    assert results.preprocessing["text"] == {"padding": "longest", "max_length": 40}
    assert {"compalign", "torch", "transformers"} <= set(results.versions)
    assert results.seconds > 0
    assert evaluate(model, processor, [SceneZeroShot(count=8)]).model == "CLIPModel"


def test_other_items_have_another_content_hash(model, processor):
    hashes = {
        evaluate(model, processor, [benchmark]).benchmarks["scenes_retrieval"].content_hash
        for benchmark in (
            SceneRetrieval(6),
            SceneRetrieval(8),
            SceneRetrieval(6, seed=1),
            SceneRetrieval(6, image_size=48),
        )
    }
    assert len(hashes) == 4


def test_results_survive_the_round_trip_but_for_the_rows(model, processor, tmp_path):
    results = evaluate(model, processor, small())
    results.to_json(tmp_path / "results.json")
    again = Results.from_json(tmp_path / "results.json")
    assert again == results
    assert again.metrics == results.metrics
    assert again.benchmarks["scenes_retrieval"].rows == []
    assert json.loads((tmp_path / "results.json").read_text())["schema_version"] == 3


def test_every_number_in_results_is_a_plain_one(model, processor):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for entry in value.values() for leaf in leaves(entry)]
        return [leaf for entry in value for leaf in leaves(entry)] if isinstance(value, list | tuple) else [value]

    results = evaluate(model, processor, small())
    scores = [vars(score) for result in results.benchmarks.values() for score in result.scores.values()]
    rows = [row for result in results.benchmarks.values() for row in result.rows]
    found = {type(leaf) for leaf in leaves([scores, rows, results.encoded, results.preprocessing, results.metrics])}
    assert found <= {float, int, str, bool, type(None)}


def test_another_schema_version_is_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"schema_version": 2}')
    with pytest.raises(ValueError, match="schema_version 2; this release reads 3"):
        Results.from_json(tmp_path / "results.json")


def test_rows_are_written_one_a_line(model, processor, tmp_path):
    results = evaluate(model, processor, small())
    results.rows_to_jsonl(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 7 * 4 + 8 + 2 * 6
    hits = [row["correct"] for row in rows if row["benchmark"] == "scenes_zero_shot"]
    assert np.mean(hits) == results.metrics["scenes_zero_shot/top1"]


def test_benchmarks_may_be_given_by_name(model, processor, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "scenes_retrieval", lambda: SceneRetrieval(count=6))
    assert list(evaluate(model, processor, ["scenes_retrieval"]).benchmarks) == ["scenes_retrieval"]


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([], "must be some of scenes_composition"),
        (["scenes_composition", "sugar"], "'sugar'"),
        ([SceneRetrieval(6), SceneRetrieval(8)], "once"),
    ],
)
def test_unknown_or_ambiguous_benchmarks_are_refused(model, processor, benchmarks, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, processor, benchmarks)
