"""compalign evaluate: a language model that sees no image stands beside the scores, and so does what training saw."""

import json

import pytest
import torch
from tiny import make_model, make_processor
from transformers import CLIPModel, GPT2Config, GPT2LMHeadModel

from compalign.evaluation import CausalLikelihood, SceneComposition, SceneRetrieval, SugarCrepe
from compalign.scripts import benchmark_evaluation, cli
from compalign.scripts.evaluate import with_contamination, with_language_model


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Annotations and images of a few items in SugarCrepe's form."""
    folder = tmp_path_factory.mktemp("sugarcrepe")
    args = benchmark_evaluation.EvaluationBenchmarkArguments(images_used=5)
    annotations = benchmark_evaluation.write_annotations(args, folder / "annotations")
    return annotations, benchmark_evaluation.draw_images(annotations, folder / "images")


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
