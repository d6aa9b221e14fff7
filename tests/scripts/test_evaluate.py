"""compalign evaluate: models of every kind and their adapters, blind language models, and what training saw."""

import json

import numpy as np
import pytest
import tiny_comalign
import tiny_multimodal
import torch
from peft import LoraConfig, get_peft_model
from tiny import IMAGE_SIZE, make_model, make_processor
from transformers import (
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    OwlViTConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from compalign.data.scenes import retrieval_items
from compalign.data.scenes.components import scene_regions
from compalign.evaluation import (
    CausalLikelihood,
    Results,
    SceneComposition,
    SceneRetrieval,
    SceneZeroShot,
    SugarCrepe,
    evaluate_model,
)
from compalign.modeling import ComAlignProcessor, load_model, load_processor
from compalign.scripts import cli
from compalign.scripts.evaluate import with_contamination, with_language_model
from compalign.scripts.scoring.regions import regions_of
from compalign.scripts.speed import EvaluationSpeedArguments
from compalign.scripts.speed import evaluation as speed_evaluation


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Annotations and images of a few items in SugarCrepe's form."""
    folder = tmp_path_factory.mktemp("sugarcrepe")
    args = EvaluationSpeedArguments(images_used=5)
    annotations = speed_evaluation.write_annotations(args, folder / "annotations")
    return annotations, speed_evaluation.draw_images(annotations, folder / "images")


@pytest.fixture(scope="module")
def language_model(processor, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "storyteller"
    torch.manual_seed(0)
    widths = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 77}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(processor.tokenizer), **widths)).save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    return str(folder)


def test_language_model_and_overlap_stand_in_the_results_and_in_the_table(
    files, processor, language_model, tmp_path, capsys
):
    annotations, images = files
    make_model(CLIPModel).save_pretrained(tmp_path / "clip")
    processor.save_pretrained(tmp_path / "clip")
    first = SugarCrepe(*files).items[0]
    row = {"image_id": int(first.image.stem), "original": first.captions[0].upper(), "enhanced": ["x"]}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    arguments = ["--models", str(tmp_path / "clip"), "--output_dir", str(tmp_path / "out")]
    arguments += ["--benchmarks", f"sugarcrepe:annotations={annotations},images={images}", "scenes_retrieval:count=4"]
    arguments += ["--blind_language_model", language_model, "--contamination", str(tmp_path / "train.json")]
    assert cli.main(["evaluate", *arguments]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "clip" / "results.json").read_text())["benchmarks"]
    assert "blind: storyteller likelihood" in printed
    assert "storyteller likelihood" in results["sugarcrepe"]["scores"]["all_micro"]["baselines"]
    note = results["sugarcrepe"]["notes"][-1]
    assert note in printed
    assert note == (
        f"checked against {tmp_path / 'train.json'}: 1 of 5 images and 1 of {len(captions(files))} captions of the "
        f"benchmark are among 1 images and 1 captions of training; images such as {first.image.name}; captions such as "
        f"{first.captions[0]!r}"
    )
    assert "0 of 4 captions" in results["scenes_retrieval"]["notes"][-1]
    assert "such as" not in results["scenes_retrieval"]["notes"][-1]


def captions(files) -> set[str]:
    return {caption for item in SugarCrepe(*files).items for caption in item.captions}


def test_scores_of_the_language_model_are_its_likelihoods_of_the_captions_in_their_places(
    processor, language_model, files
):
    sugarcrepe, scenes, retrieval = SugarCrepe(*files), SceneComposition(2), SceneRetrieval(4)
    chosen = with_language_model([sugarcrepe, retrieval, scenes], language_model)
    likelihood = CausalLikelihood(GPT2LMHeadModel.from_pretrained(language_model), processor.tokenizer)
    assert chosen[1] is retrieval
    for before, after in ((sugarcrepe, chosen[0]), (scenes, chosen[2])):
        assert set(after.baseline_scores) == {*before.baseline_scores, "storyteller likelihood"}
        for item, scores in zip(after.items, after.baseline_scores["storyteller likelihood"], strict=True):
            assert scores == pytest.approx(likelihood(item.captions), rel=1e-5)


def test_a_language_model_without_captions_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="gpt2: none of scenes_retrieval chooses between captions"):
        with_language_model([SceneRetrieval(4)], "gpt2")


def test_the_note_is_of_the_copy_only_and_names_a_few(files, tmp_path):
    sugarcrepe = SugarCrepe(*files)
    names = sorted({item.image.name for item in sugarcrepe.items})
    rows = [{"image_id": int(name[:12]), "original": "nothing of this", "enhanced": ["x"]} for name in names]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    before = list(sugarcrepe.notes)
    noted = with_contamination(sugarcrepe, str(tmp_path / "train.json"))
    assert sugarcrepe.notes == before == noted.notes[:-1]
    assert noted.notes[-1].endswith(f"; images such as {', '.join(names[:3])}")
    assert "5 of 5 images and 0 of" in noted.notes[-1]


SCENES = [f"scenes_composition:count=2,image_size={IMAGE_SIZE}", f"scenes_retrieval:count=4,image_size={IMAGE_SIZE}"]


def lora(base, folder, targets):
    """A LoRA adapter that changes the model in a folder, and what the model is with the adapter merged."""
    model = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=targets))
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(folder)
    return model.merge_and_unload()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of each kind of model, and of an adapter on each."""
    folder, processor = tmp_path_factory.mktemp("kinds"), make_processor()
    heads = tiny_comalign.make_model(backbone=str(folder / "clip"))
    for head in (heads.image_head, heads.text_head):
        torch.nn.init.constant_(head.gate, 0.5)  # as after training: at 0 what lies below has no effect
    parts = {
        "clip": (make_model(CLIPModel), processor),
        "llava": (tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava")),
        "heads": (heads, ComAlignProcessor(processor.image_processor, processor.tokenizer, **tiny_comalign.SLOTS)),
    }
    for name, saved in parts.items():
        for part in saved:
            part.save_pretrained(folder / name)
    for name in parts:
        merged = lora(folder / name, folder / f"{name}_lora", ["q_proj", "v_proj"])
        for part in (merged, load_processor(folder / name)):
            part.save_pretrained(folder / f"{name}_merged")
    return folder


@pytest.mark.parametrize("kind", ["clip", "heads", "llava"])
def test_a_model_of_each_kind_and_its_adapter_are_evaluated_side_by_side(kind, models, tmp_path, capsys):
    names = [kind, f"{kind}_lora", f"{kind}_merged"]
    flags = ["--models", *(str(models / name) for name in names), "--benchmarks", *SCENES]
    assert cli.main(["evaluate", *flags, "--output_dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    base, adapter, merged = (Results.from_json(tmp_path / name / "results.json") for name in names)
    assert [base.model, adapter.model, merged.model] == names
    assert all(f"| {name} " in printed for name in names)
    assert set(base.benchmarks) == {"scenes_composition", "scenes_retrieval"}
    scores = {name: rows_of(tmp_path / name) for name in names}
    np.testing.assert_allclose(scores[names[1]], scores[names[2]], atol=1e-5)
    assert np.abs(scores[names[1]] - scores[names[0]]).max() > 1e-4
    assert (tmp_path / "chart.png").stat().st_size > 10_000


def test_report_adds_a_page_with_the_items_and_their_images(models, files, tmp_path, capsys):
    annotations, images = files
    flags = ["--models", str(models / "clip"), str(models / "clip_lora")]
    flags += ["--benchmarks", f"sugarcrepe:annotations={annotations},images={images}", SCENES[1]]
    assert cli.main(["evaluate", *flags, "--output_dir", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "index.html").exists()
    assert cli.main(["evaluate", *flags, "--report", "--output_dir", str(tmp_path / "out")]) == 0
    assert "index.html" in capsys.readouterr().out
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    sugarcrepe = SugarCrepe(*files)
    assert all(f'"{item.image.name}"' in page for item in sugarcrepe.items)
    assert f"{len(sugarcrepe.items)} items" in page
    assert "scenes_retrieval" not in page.partition('id="data"')[2]
    rows = [json.loads(line) for line in (tmp_path / "out" / "clip" / "rows.jsonl").read_text().splitlines()]
    assert {row["image"] for row in rows if row["benchmark"] == "sugarcrepe"} == {
        item.image.name for item in sugarcrepe.items
    }


def rows_of(folder) -> np.ndarray:
    """The scores of the choices between captions, item by item."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return np.array([row["scores"] for row in rows if row.get("benchmark") == "scenes_composition"])


def test_comalign_gets_the_true_regions_of_scenes(models, tmp_path):
    flags = ["--models", str(models / "heads"), "--benchmarks", *SCENES, "--output_dir", str(tmp_path)]
    assert cli.main(["evaluate", *flags]) == 0
    found = Results.from_json(tmp_path / "heads" / "results.json")
    assert "regions of scenes_composition, scenes_retrieval: those of the generated scenes" in found.notes
    benchmarks = [SceneComposition(2, image_size=IMAGE_SIZE), SceneRetrieval(4, image_size=IMAGE_SIZE)]
    pairs = [pair for each in benchmarks for pair in zip(each.images, each.scenes, strict=True)]
    scenes = {image.tobytes(): scene for image, scene in pairs}
    model, processor = load_model(models / "heads"), load_processor(models / "heads")
    expected = evaluate_model(
        model,
        processor,
        benchmarks,
        progress=False,
        regions=lambda image: scene_regions(scenes[image.tobytes()], IMAGE_SIZE),
    )
    assert found.metrics == expected.metrics
    whole = evaluate_model(model, processor, benchmarks, progress=False)
    expected_rows = [row["scores"] for row in expected.benchmarks["scenes_composition"].rows]
    whole_rows = [row["scores"] for row in whole.benchmarks["scenes_composition"].rows]
    np.testing.assert_allclose(rows_of(tmp_path / "heads"), expected_rows, atol=1e-6)
    assert np.abs(np.subtract(whole_rows, expected_rows)).max() > 1e-4


@pytest.mark.parametrize(
    "benchmark",
    [SceneComposition(2, image_size=48), SceneZeroShot(3, image_size=48), SceneRetrieval(3, image_size=48)],
    ids=lambda benchmark: benchmark.name,
)
def test_each_image_of_a_generated_benchmark_has_the_regions_of_its_own_scene(benchmark):
    regions, _ = regions_of([benchmark])
    for image, scene in zip(benchmark.images, benchmark.scenes, strict=True):
        entities, relations = regions(image)
        assert [entity.box for entity in entities] == [box for _, box in scene.entities(48)]
        assert len(relations) == len(entities) * (len(entities) - 1) // 2
    assert [item.scene for item in retrieval_items(3)] == SceneRetrieval(3).scenes


def test_without_a_detector_photographs_are_compared_as_wholes_and_the_results_say_so(models, files, tmp_path):
    annotations, images = files
    flags = ["--benchmarks", f"sugarcrepe:annotations={annotations},images={images}", SCENES[1]]
    assert cli.main(["evaluate", "--models", str(models / "heads"), *flags, "--output_dir", str(tmp_path)]) == 0
    notes = Results.from_json(tmp_path / "heads" / "results.json").notes
    assert "regions of scenes_retrieval: those of the generated scenes" in notes
    assert "no regions of sugarcrepe: captions are compared with whole images; see --detector" in notes
    regions, _ = regions_of([SugarCrepe(*files)])
    assert regions(SugarCrepe(*files).images[0]) == ((), ())


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector that finds something everywhere."""
    folder = tmp_path_factory.mktemp("detectors") / "yolos"
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = YolosForObjectDetection(YolosConfig(**tower, image_size=[32, 32], patch_size=8, num_detection_tokens=3))
    torch.nn.init.constant_(model.class_labels_classifier.layers[-1].bias[:1], 9.0)
    model.save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_detector_brings_the_regions_of_photographs(models, files, detector, tmp_path):
    annotations, images = files
    flags = ["--benchmarks", f"sugarcrepe:annotations={annotations},images={images}", "--detector", str(detector)]
    assert cli.main(["evaluate", "--models", str(models / "heads"), *flags, "--output_dir", str(tmp_path)]) == 0
    found = Results.from_json(tmp_path / "heads" / "results.json")
    assert "regions of sugarcrepe: found by yolos" in found.notes
    sugarcrepe = SugarCrepe(*files)
    regions, _ = regions_of([sugarcrepe], str(detector))
    entities, relations = regions(sugarcrepe.images[0])
    assert len(entities) == 3
    assert len(relations) == 3
    assert found.encoded["images_encoded"] > 5  # the wholes and their regions


def test_a_detector_that_looks_for_phrases_is_refused(files, tmp_path, monkeypatch):
    OwlViTConfig().save_pretrained(tmp_path / "owl")

    class ZeroShot:
        zero_shot = True

        def __init__(self, model, threshold=None):
            pass

    monkeypatch.setattr("compalign.scripts.scoring.components.Detector", ZeroShot)
    with pytest.raises(ValueError, match=r"owl is zero-shot and looks for the phrases of a caption; accepted: "):
        regions_of([SugarCrepe(*files)], str(tmp_path / "owl"))


def test_released_heads_are_evaluated_with_their_encoder(repository, tmp_path):
    heads = repository / "hub_cards" / "released" / "scenes_comalign"
    flags = ["--benchmarks", "scenes_retrieval:count=8", "--output_dir", str(tmp_path)]
    assert cli.main(["evaluate", "--models", str(heads), *flags]) == 0
    found = Results.from_json(tmp_path / "scenes_comalign" / "results.json")
    assert found.metrics["scenes_retrieval/text_to_image_recall_1"] >= 0.5


@pytest.fixture
def refused(tmp_path, capsys):
    """The sentence with which the command refuses a line; nothing is written."""

    def run(*words):
        line = ["--benchmarks", SCENES[1], "--output_dir", str(tmp_path / "out")]
        assert cli.main(["evaluate", *map(str, words), *line]) == 2
        assert not (tmp_path / "out").exists()
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("compalign evaluate: ")
        return message.removeprefix("compalign evaluate: ")

    return run


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(models, detector, tmp_path, refused):
    clip = models / "clip"
    assert refused("--models", clip, models / "clib") == (
        f"there is no folder {models / 'clib'}; the nearest is {models / 'clip'}"
    )
    (tmp_path / "epoch_5.pt").write_bytes(b"")
    assert f"compalign convert --source {tmp_path / 'epoch_5.pt'}" in refused("--models", tmp_path / "epoch_5.pt")
    assert refused("--models", detector).startswith(f"{detector} is a detector, such as DETR or OWL-ViT; accepted: ")
    assert refused("--models", clip, "--detector", detector) == "--detector is for ComAlign, and no model is ComAlign's"
    assert refused("--models", clip, f"{clip}/") == f"two models are called clip: {clip} and {clip}/"
    assert "none of scenes_retrieval chooses" in refused("--models", clip, "--blind_language_model", "gpt2")


def test_a_model_without_its_tokenizer_is_refused(tmp_path, refused):
    make_model(CLIPModel).save_pretrained(tmp_path / "bare")
    make_processor().image_processor.save_pretrained(tmp_path / "bare")
    assert str(tmp_path / "bare") in refused("--models", tmp_path / "bare")


def test_a_misspelt_benchmark_is_refused_before_a_model_is_looked_for(capsys):
    assert cli.main(["evaluate", "--models", "nowhere/nothing", "--benchmarks", "sugarcreep"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("compalign evaluate: no benchmark 'sugarcreep'; must be one of ")
