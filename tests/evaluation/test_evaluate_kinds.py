"""One call evaluates every kind of model, adapters included, and refuses what it cannot before it encodes anything."""

import subprocess
import sys

import numpy as np
import pytest
import tiny
import tiny_comalign
import tiny_multimodal
import torch
from peft import LoraConfig, get_peft_model
from transformers import CLIPModel

from compalign.data.components import extract
from compalign.data.scenes import generate_scene, render, retrieval_items
from compalign.data.scenes.components import scene_regions
from compalign.evaluation import (
    CaptionLikelihood,
    LetteredChoice,
    Results,
    SceneComposition,
    SceneQuestions,
    SceneRetrieval,
    Scorer,
    ZeroShotClassification,
    encode_components,
    encode_references,
    evaluate_model,
    evaluator,
)
from compalign.evaluation.benchmarks import SugarCrepePP
from compalign.evaluation.scorers.captions import encode_conversations
from compalign.evaluation.scorers.questions import answer_questions
from compalign.modeling import load_model, load_processor

KINDS = ("dual encoder", "comalign", "llava")
TARGETS = {"dual encoder": r".*[qv]_proj", "comalign": r".*(q_proj|v_proj)", "llava": r".*language_model.*[qv]_proj"}
IMAGES = [render(generate_scene(seed), 32) for seed in range(3)]
CAPTIONS = ["a red cat above a blue star", "a blue star above a red cat", "a star"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model of each kind as it lies on the disk, and a LoRA adapter over it."""
    top = tmp_path_factory.mktemp("models")
    models = {
        "dual encoder": tiny.make_model(CLIPModel),
        "comalign": tiny_comalign.make_model(backbone="../dual encoder"),
        "llava": tiny_multimodal.make_model("llava"),
    }
    for head in (models["comalign"].image_head, models["comalign"].text_head):
        torch.nn.init.constant_(head.gate, 0.5)  # as after training; a head that starts changes nothing
    for kind, model in models.items():
        processor = tiny_multimodal.make_processor("llava") if kind == "llava" else tiny.make_processor()
        model.save_pretrained(top / kind)
        processor.save_pretrained(top / kind)
    for kind in KINDS:
        torch.manual_seed(1)
        lora = LoraConfig(r=4, lora_alpha=64, target_modules=TARGETS[kind], init_lora_weights=False)
        get_peft_model(load_model(top / kind), lora).save_pretrained(top / f"{kind} adapter")
    return top


def evaluate(folder, benchmarks, **options) -> Results:
    return evaluate_model(load_model(folder), load_processor(folder), benchmarks, progress=False, **options)


def scores_of(results: Results, name: str) -> np.ndarray:
    """The scores of all items."""
    return np.array([row["scores"] for row in results.benchmarks[name].rows])


def drawn_regions(image):
    """The regions of the scenes that `SceneRetrieval(4, image_size=32)` draws."""
    known = {render(item.scene, 32).tobytes(): scene_regions(item.scene, 32) for item in retrieval_items(4, "test", 0)}
    return known[image.tobytes()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_and_its_adapter_are_evaluated_by_the_same_call(folders, kind):
    benchmarks = [SceneComposition(count=2, image_size=32), SceneRetrieval(4, image_size=32)]
    plain, adapted = (
        evaluate(folders / name, benchmarks, name="mine", blind=False) for name in (kind, f"{kind} adapter")
    )
    assert plain.model == adapted.model == "mine"
    assert list(plain.benchmarks) == ["scenes_composition", "scenes_retrieval"]
    assert plain.benchmarks["scenes_composition"].ability == "composition"
    assert plain.benchmarks["scenes_retrieval"].ability == "recognition"
    assert plain.encoded["images_requested"] == 14 + 4
    hashes = [[result.content_hash for result in model.benchmarks.values()] for model in (plain, adapted)]
    assert hashes[0] == hashes[1]
    assert abs(scores_of(plain, "scenes_composition") - scores_of(adapted, "scenes_composition")).max() > 1e-4
    merged = evaluate_model(
        load_model(folders / f"{kind} adapter", merge_adapter=True),
        load_processor(folders / kind),
        benchmarks,
        progress=False,
        blind=False,
    )
    # Merging changes the order of sums.
    np.testing.assert_allclose(
        scores_of(merged, "scenes_composition"), scores_of(adapted, "scenes_composition"), atol=2e-4
    )


def test_the_adapter_of_an_encoder_never_gets_the_cached_features_of_its_base(folders, tmp_path):
    benchmarks = [SceneComposition(count=2, image_size=32)]
    evaluate(folders / "dual encoder", benchmarks, cache=tmp_path)
    adapted = evaluate(folders / "dual encoder adapter", benchmarks, cache=tmp_path)
    assert adapted.encoded["images_encoded"] == 14
    again = evaluate(folders / "dual encoder adapter", benchmarks, cache=tmp_path)
    assert again.encoded["images_encoded"] == again.encoded["texts_encoded"] == 0
    assert np.array_equal(scores_of(again, "scenes_composition"), scores_of(adapted, "scenes_composition"))


def test_comalign_without_regions_compares_whole_images_and_says_so(folders):
    benchmark = SceneComposition(count=2, image_size=32)
    without = evaluate(folders / "comalign", [benchmark])
    assert [note for note in without.notes if "regions" in note] == [
        "no regions were given, so captions are compared with whole images"
    ]
    explicit = evaluate(folders / "comalign", [benchmark], regions=lambda image: ([], []))
    assert explicit.notes == []
    assert np.array_equal(scores_of(without, "scenes_composition"), scores_of(explicit, "scenes_composition"))
    assert without.encoded["images_encoded"] == 14


def test_comalign_with_regions_encodes_them_too(folders):
    benchmark = SceneRetrieval(4, image_size=32)
    results = evaluate(folders / "comalign", [benchmark], regions=drawn_regions)
    assert results.notes == []
    assert results.encoded["images_requested"] == 4 < results.encoded["images_encoded"]
    assert results.activation == {"text": "quick_gelu", "vision": "quick_gelu"}
    without_phrases = evaluate(
        folders / "comalign",
        [benchmark],
        regions=drawn_regions,
        phrases=lambda captions: [components._replace(entities=[], relations=[]) for components in extract(captions)],
    )
    assert without_phrases.encoded["texts_encoded"] == 4 < results.encoded["texts_encoded"]


def test_the_released_heads_are_evaluated_by_name_alone(repository):
    folder = repository / "hub_cards" / "released" / "scenes_comalign"
    results = evaluate(folder, ["scenes_retrieval:count=20"])
    assert any("no regions" in note for note in results.notes)
    assert results.find("scenes_retrieval/text_to_image_recall_1").value > 0.3


def test_captions_and_questions_are_answered_in_one_call(folders):
    questions, composition = SceneQuestions(3, 48), SceneComposition(count=2, image_size=48)
    results = evaluate(folders / "llava", [questions, composition, SceneRetrieval(3, image_size=48)], name="tiny")
    assert list(results.benchmarks) == ["scenes_questions", "scenes_composition", "scenes_retrieval"]
    alone = evaluate(folders / "llava", [questions], name="tiny")
    assert results.benchmarks["scenes_questions"] == alone.benchmarks["scenes_questions"]
    assert results.preprocessing["text"] == {
        "method": "CaptionLikelihood",
        "prompt": CaptionLikelihood.prompt,
        "reduction": "mean",
        "questions": "greedy answer",
    }
    assert alone.preprocessing["text"] == {"questions": "greedy answer"}
    assert results.encoded["images_requested"] == 3 + 14 + 3
    assert results.encoded["texts_truncated"] == 0
    for name, score in (("scenes_questions", "all_micro"), ("scenes_composition", "all_macro")):
        assert "tiny without the image" in results.benchmarks[name].scores[score].baselines
    assert len(results.benchmarks["scenes_questions"].rows) == len(questions.asked)


def test_a_model_that_reads_no_text_alone_has_no_blind_baseline_and_says_so():
    processor, model = tiny_multimodal.make_paligemma_processor(), tiny_multimodal.make_model("paligemma")
    model.resize_token_embeddings(len(processor.tokenizer))
    benchmark = SceneComposition(count=2, image_size=32)
    results = evaluate_model(model, processor, [benchmark], name="pali", progress=False)
    assert results.notes == ["no blind baseline of the model itself: PaliGemma reads no text without an image"]
    score = results.find("scenes_composition/all_macro")
    assert set(score.baselines) == set(benchmark.baseline_scores)


# Refusals


class Prompts(ZeroShotClassification):
    """Ensembles of two prompts."""

    name = "prompts"

    def __init__(self):
        super().__init__(IMAGES, [0, 1, 0], ["star", "cat"], ["a {}", "one {}"])


class Compared(SceneComposition):
    """Compares texts with texts."""

    name = "compared"
    compares_texts = SugarCrepePP.compares_texts


@pytest.fixture
def nothing_is_encoded(monkeypatch):
    """Any attempt to encode fails."""

    def fail(*arguments, **options):
        pytest.fail("something was encoded")

    for name in ("encode_references", "encode_components", "encode_conversations", "answer_questions"):
        monkeypatch.setattr(evaluator, name, fail)


@pytest.mark.usefixtures("nothing_is_encoded")
@pytest.mark.parametrize(
    ("kind", "benchmark", "options", "message"),
    [
        ("dual encoder", "scenes_question", {}, "no benchmark 'scenes_question'; must be one of .*scenes_questions"),
        ("dual encoder", "sugarcrepe", {}, "benchmark sugarcrepe: missing a required argument: 'annotations'"),
        ("llava", Compared(2), {}, "mine cannot be evaluated on compared: it compares texts with one another"),
        ("dual encoder", SceneQuestions(1, 8), {}, "mine cannot be evaluated on scenes_questions: only an image-text"),
        ("comalign", SceneQuestions(1, 8), {}, "mine cannot be evaluated on scenes_questions: .* it is a ComAlign"),
        ("comalign", Prompts(), {}, "mine cannot be evaluated on prompts: it averages ensembles of 2 prompts"),
        ("llava", Prompts(), {}, "mine cannot be evaluated on prompts: it averages ensembles of 2 prompts"),
        (
            "llava",
            SceneRetrieval(27, image_size=8),
            {"method": LetteredChoice()},
            "mine cannot be evaluated on scenes_retrieval: it compares 27 captions per image; LetteredChoice accepts",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_encoded(folders, kind, benchmark, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        evaluate(folders / kind, [SceneRetrieval(2, image_size=8), benchmark][-1:], name="mine", **options)
    assert "\n" not in str(refused.value)
    assert not str(refused.value).endswith(".")


@pytest.mark.usefixtures("nothing_is_encoded")
@pytest.mark.parametrize(
    ("regions", "reason"), [(drawn_regions, "depends on all candidates"), (None, "'released' needs regions")]
)
def test_comalign_refuses_what_its_released_score_cannot_compare(folders, regions, reason):
    model = load_model(folders / "comalign", score="released")
    benchmark = SceneComposition(count=2, image_size=32)
    with pytest.raises(ValueError, match=f"mine cannot be evaluated on scenes_composition: .*{reason}"):
        evaluate_model(model, tiny.make_processor(), [benchmark], name="mine", regions=regions, progress=False)


def test_comalign_with_the_released_score_is_evaluated_on_one_group(folders):
    model, benchmark = load_model(folders / "comalign", score="released"), SceneRetrieval(4, image_size=32)
    results = evaluate_model(model, tiny.make_processor(), [benchmark], regions=drawn_regions, progress=False)
    assert results.benchmarks["scenes_retrieval"].n_found == 4


# The scorers


def make_scorer(kind, folders) -> Scorer:
    """A scorer of each kind, of three images and three captions."""
    groups = [(np.arange(3)[None], np.arange(3)[None])]
    if kind == "questions":
        folder = folders / "llava"
        return answer_questions(load_model(folder), load_processor(folder), SceneQuestions(3, 48), progress=False)
    model, processor = load_model(folders / kind), load_processor(folders / kind)
    if kind == "dual encoder":
        return encode_references(model, processor, IMAGES, CAPTIONS, progress=False)
    if kind == "comalign":
        return encode_components(model, processor, IMAGES, CAPTIONS, lambda _: ([], []), extract, progress=False)
    return encode_conversations(model, processor, IMAGES, CAPTIONS, groups, CaptionLikelihood(), progress=False)


@pytest.mark.parametrize("kind", [*KINDS, "questions"])
def test_every_scorer_fulfils_the_protocol(folders, kind):
    scorer = make_scorer(kind, folders)
    assert isinstance(scorer, Scorer)
    assert len(scorer.image_keys) == 3
    assert {
        "images_requested",
        "images_encoded",
        "image_batches",
        "texts_requested",
        "texts_encoded",
        "text_batches",
        "texts_truncated",
    } <= scorer.counts.keys()
    assert {type(count) for count in scorer.counts.values()} == {int}
    assert scorer.counts["images_encoded"] == 3
    assert scorer.counts["text_batches"] > 0
    groups = (
        (np.zeros((2, 1), int), np.array([[0], [1]]))
        if kind == "questions"
        else (np.array([[0, 1]]), np.eye(3, dtype=int)[:1])
    )
    scores = scorer.scores(*groups)
    assert scores.shape == (len(groups[1]), groups[1].shape[1], groups[0].shape[1])
    if kind in ("llava", "questions"):
        with pytest.raises(ValueError, match="an image-text-to-text model embeds no texts"):
            scorer.text_scores(groups[1])
    else:
        pairs = scorer.text_scores(np.array([[0, 1]]))
        assert pairs.shape == (1, 2, 2)
        assert pairs[0, 0, 1] == pytest.approx(pairs[0, 1, 0])


def test_the_package_loads_nothing_heavy_until_it_is_asked():
    script = (
        "import sys, compalign.evaluation\n"
        "from compalign.evaluation import Results\n"
        "print(*({'torch', 'transformers', 'datasets', 'pandas', 'matplotlib'} & set(sys.modules)), 'end')"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["end"]


def test_every_public_name_is_there():
    import compalign.evaluation as evaluation

    assert {"BENCHMARKS", "evaluate_model", "Results", "SceneQuestions", "Scorer"} <= set(evaluation.__all__)
    for name in evaluation.__all__:
        assert getattr(evaluation, name) is not None
