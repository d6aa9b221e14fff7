"""The command on a model of each kind, what it reads of its line, and what it refuses."""

import math

import numpy as np
import pytest
import tiny
import tiny_comalign
import tiny_multimodal
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import BertConfig, CLIPModel, YolosConfig

from compalign.data.components import CaptionComponents, Entity
from compalign.data.components.files import FILE_NAME, describe
from compalign.data.scenes.components import SceneComponentDataset
from compalign.evaluation.scorers.matches import CaptionMatches, Match, RoleMatches
from compalign.modeling import CECLIPModel, ComAlignProcessor, DeGLACLIPModel, load_model, load_processor
from compalign.scripts import cli, score
from compalign.scripts.scoring import components
from compalign.scripts.scoring.picture import Bar, draw_bars, draw_matches

TRUE, FALSE = "a red cat above a blue star", "a blue cat above a red star"
SCENE = SceneComponentDataset(3, image_size=tiny.IMAGE_SIZE)[2]


@pytest.fixture
def image(tmp_path):
    """A scene of three objects."""
    path = tmp_path / "scenes" / "scene.png"
    path.parent.mkdir()
    SCENE["image"].save(path)
    return path


def saved(folder, *parts):
    """A folder with a model and what else belongs to it."""
    for part in parts:
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def comalign(tmp_path):
    """Heads over a dual encoder in another folder."""
    backbone, parts = saved(tmp_path / "clip", tiny.make_model(CLIPModel), tiny.make_processor()), tiny.make_processor()
    processor = ComAlignProcessor(parts.image_processor, parts.tokenizer, **tiny_comalign.SLOTS)
    return saved(tmp_path / "heads", tiny_comalign.make_model(backbone=str(backbone)), processor)


@pytest.fixture
def regions(image):
    """A components file beside the image, which names other images too."""
    rows = [
        describe(name, SCENE["image"].size, SCENE["entities"], SCENE["captions"])
        for name in ("other.png", "scenes/scene.png", "elsewhere/scene.png")
    ]
    (image.parent / FILE_NAME).write_text("".join(row.to_json() + "\n" for row in rows))
    return image.parent


def run(image, *captions, **flags):
    """The command, with these words and flags."""
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return score.main([str(image), *captions, *words])


@pytest.mark.parametrize("model_class", [CLIPModel, DeGLACLIPModel, CECLIPModel])
def test_a_dual_encoder_gives_the_cosines_and_shares_of_its_own_forward(model_class, image, tmp_path, capsys):
    model, processor = tiny.make_model(model_class).eval(), tiny.make_processor()
    folder = saved(tmp_path / "model", model, processor)
    found = run(image, FALSE, TRUE, model=folder, output_dir=tmp_path / "out")
    inputs = processor(images=SCENE["image"], text=[FALSE, TRUE], return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_image[0]
        cosines = dict(zip((FALSE, TRUE), (logits / model.logit_scale.exp()).tolist(), strict=True))
    assert {caption: cosine for caption, cosine, _ in found} == pytest.approx(cosines, abs=1e-5)
    assert [share for *_, share in found] == pytest.approx(sorted(logits.softmax(0).tolist(), reverse=True), abs=1e-5)
    printed = capsys.readouterr().out.splitlines()
    best = max(cosines, key=cosines.get)
    assert [line.startswith("*") for line in printed if best in line] == [True]
    assert printed[-1] == f"wrote {tmp_path / 'out' / 'score.png'}"
    assert Image.open(tmp_path / "out" / "score.png").width > 1000


def test_an_answering_model_gives_the_likelihood_of_each_caption(image, tmp_path):
    model, processor = tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava")
    folder = saved(tmp_path / "model", model, processor)
    found = run(image, TRUE, "a dog", model=folder, output_dir=tmp_path / "out", prompt="What is there?")
    for caption, likelihood, probability in found:
        question = f"USER: <image>\nWhat is there? ASSISTANT: {caption}</s>"
        inputs = processor(images=SCENE["image"], text=question, return_tensors="pt")
        answer = processor.tokenizer(f"ASSISTANT: {caption}</s>")["input_ids"]
        length = len(answer) - len(processor.tokenizer("ASSISTANT:")["input_ids"])
        with torch.inference_mode():
            log_probs = model(**inputs).logits[0, :-1].log_softmax(-1)
        chosen = log_probs.gather(-1, inputs["input_ids"][0, 1:, None])[-length:, 0]
        assert likelihood == pytest.approx(chosen.mean().item(), abs=1e-4)
        assert probability == pytest.approx(math.exp(likelihood))
    assert found[0].score >= found[1].score
    assert Image.open(tmp_path / "out" / "score.png").width > 1000


def test_comalign_compares_phrases_with_the_regions_of_a_components_file(comalign, regions, image, tmp_path, capsys):
    found = run(image, TRUE, FALSE, model=comalign, components=regions, output_dir=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "no regions" not in printed
    assert {caption.text for caption in found} == {TRUE, FALSE}
    assert found[0].score >= found[1].score
    for caption in found:
        parts = caption.whole, caption.entities.similarity, caption.relations.similarity
        assert caption.score == pytest.approx(np.mean(parts), abs=1e-6)
        assert [match.phrase for match in caption.relations.matches] == [caption.text.removeprefix("a ")]
        (pair,) = caption.relations.matches
        assert pair.entities in [relation.pair for relation in SCENE["relations"]]
        for match in caption.entities.matches:
            line = f"{match.cosine:.3f}  {match.phrase}"
            assert any(
                line in row and row.endswith(SCENE["entities"][match.region].label) for row in printed.split("\n")
            )
    assert Image.open(tmp_path / "out" / "score.png").width > 1000


def test_without_regions_comalign_compares_with_the_whole_image_and_says_so(comalign, image, tmp_path, capsys):
    (found,) = run(image, TRUE, model=comalign, output_dir=tmp_path / "out")
    assert found.score == pytest.approx(found.whole)
    assert found.entities.similarity is None
    assert "no regions: without --detector or --components" in capsys.readouterr().out


def test_a_detector_brings_the_regions(comalign, image, tmp_path, capsys, monkeypatch):
    """A perfect detector, but for a box outside the image, which is named."""
    outside = Entity((99, 0, 120, 10), 0.2, "ghost")
    YolosConfig().save_pretrained(tmp_path / "oracle")

    class Oracle:
        def __init__(self, model, threshold):
            assert (model, threshold) == (str(tmp_path / "oracle"), 0.3)

        def __call__(self, name, picture, phrases):
            assert phrases == ["red cat", "blue star"]
            return [*SCENE["entities"], outside]

    monkeypatch.setattr(components, "Detector", Oracle)
    flags = {"detector": tmp_path / "oracle", "threshold": 0.3, "output_dir": tmp_path / "out"}
    (found,) = run(image, TRUE, model=comalign, **flags)
    assert found.entities.similarity is not None
    assert "left out: box outside the image ('ghost'" in capsys.readouterr().out


def test_phrases_beyond_the_slots_of_the_model_are_named(comalign, image, tmp_path, capsys):
    many = "a dog, a cat, a bird, a ball, a tree and a car"
    run(image, many, model=comalign, output_dir=tmp_path / "out")
    assert f"left out: 2 of 6 entities of {many!r}, the model has 4 slots" in capsys.readouterr().out


def test_a_recipe_names_the_image_and_the_captions(image, tmp_path):
    folder = saved(tmp_path / "model", tiny.make_model(CLIPModel), tiny.make_processor())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"image: {image}\ncaptions: ['{TRUE}', '{FALSE}']\nmodel: {folder}\noutput_dir: {tmp_path / 'out'}\n"
    )
    assert {caption for caption, *_ in score.main(["--config", str(recipe)])} == {TRUE, FALSE}
    assert {caption for caption, *_ in score.main([str(image), "a dog", "--config", str(recipe)])} == {"a dog"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["a.png", "x", "y z", "--model", "m"], ["--image", "a.png", "--captions", "x", "y z", "--model", "m"]),
        (["a.png", "--model", "m"], ["--image", "a.png", "--model", "m"]),
        (["--model", "m", "--image", "a.png"], ["--model", "m", "--image", "a.png"]),
        (["-h"], ["-h"]),
    ],
)
def test_the_words_before_the_first_flag_are_the_image_and_the_captions(line, expected):
    assert score.with_flags(line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "required: --model"),
        (["--model", "m"], "no image: compalign score IMAGE"),
        (["a.png", "--model", "m"], "no caption: compalign score IMAGE"),
        (["a.png", " ", "--model", "m"], "caption ' ' is empty"),
        (["a.png", "x", "x", "--model", "m"], "caption 'x' is given twice"),
        (["a.png", "x", "--model", "m", "--image=b.png"], "--image is given twice, as 'a.png' and as a flag"),
        (["a.png", "x", "--model", "m", "--captions", "y"], "--captions is given twice, as 'x' and as a flag"),
        (["missing.png", "x", "--model", "m"], "missing.png: no such file"),
        (["a.png", "x", "--model", "m", "--detector", "d", "--components", "c"], "give one of them"),
    ],
)
def test_a_wrong_line_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        score.main(line)


def test_an_unknown_model_is_an_error_of_one_line(image, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "score", "")
    (tmp_path / "somewhere").mkdir()
    assert cli.main(["score", str(image), "x", "--model", str(tmp_path / "nowhere")]) == 2
    printed = capsys.readouterr().err
    nearest = f"; the nearest is {tmp_path / 'somewhere'}"
    assert printed == f"compalign score: there is no folder {tmp_path / 'nowhere'}{nearest}\n"


def test_a_model_without_its_tokenizer_is_refused_in_one_line(image, tmp_path, capsys):
    folder = saved(tmp_path / "model", tiny.make_model(CLIPModel), tiny.make_processor())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert cli.main(["score", str(image), TRUE, "--model", str(folder), "--output_dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"compalign score: {folder}")
    assert "tokenizer" in message
    assert not (tmp_path / "out" / "score.png").exists()


def test_a_file_of_weights_is_sent_to_convert(image, tmp_path, capsys):
    (tmp_path / "epoch_5.pt").write_bytes(b"")
    assert cli.main(["score", str(image), TRUE, "--model", str(tmp_path / "epoch_5.pt")]) == 2
    assert f"compalign convert --source {tmp_path / 'epoch_5.pt'}" in capsys.readouterr().err


def test_a_detector_scores_no_captions(image, tmp_path):
    YolosConfig().save_pretrained(tmp_path / "yolos")
    with pytest.raises(ValueError, match=r"yolos is a detector, .*; accepted: a dual encoder, .* or ComAlign's heads"):
        run(image, TRUE, model=tmp_path / "yolos")


def test_heads_whose_encoder_is_gone_say_so_in_one_line(comalign, image, tmp_path, capsys):
    (tmp_path / "clip").rename(tmp_path / "moved")
    assert cli.main(["score", str(image), TRUE, "--model", str(comalign), "--output_dir", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"compalign score: {comalign}: its backbone {tmp_path / 'clip'} cannot be loaded: ")


@pytest.mark.parametrize("kind", ["clip", "llava", "comalign"])
def test_an_adapter_scores_as_the_model_that_it_makes_of_its_base(kind, comalign, image, tmp_path):
    base = {"clip": tmp_path / "clip", "llava": tmp_path / "llava", "comalign": comalign}[kind]
    if kind == "llava":
        saved(base, tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava"))
    model = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
        if kind == "comalign" and name.endswith("gate"):
            torch.nn.init.constant_(value, 0.5)  # as after training: at 0 the layers below have no effect
    model.save_pretrained(tmp_path / "adapter")
    merged = saved(tmp_path / "merged", model.merge_and_unload(), load_processor(base))
    if kind == "comalign":
        base_model = load_model(base)
        for name, value in base_model.named_parameters():
            if name.endswith("gate"):
                torch.nn.init.constant_(value, 0.5)
        base_model.save_pretrained(base)
    found = {
        name: [caption.score for caption in run(image, TRUE, FALSE, model=path, output_dir=tmp_path / "out")]
        for name, path in (("base", base), ("adapter", tmp_path / "adapter"), ("merged", merged))
    }
    assert found["adapter"] == pytest.approx(found["merged"], abs=1e-5)
    assert found["adapter"] != pytest.approx(found["base"], abs=1e-4)


def test_a_model_of_another_kind_is_refused_with_the_accepted_ones(image, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"of type 'bert'; accepted: comalign, .*clip.*siglip.*image-text-to-text"):
        run(image, TRUE, model=tmp_path / "bert")


def test_regions_are_refused_where_nothing_uses_them(image, tmp_path):
    folder = saved(tmp_path / "model", tiny.make_model(CLIPModel))
    with pytest.raises(ValueError, match=r"--detector and --components are for ComAlign; .* is a dual encoder"):
        run(image, TRUE, model=folder, detector="d", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_components_file_without_the_image_is_refused(comalign, regions, tmp_path):
    stranger = tmp_path / "stranger.png"
    SCENE["image"].save(stranger)
    with pytest.raises(ValueError, match=r"components\.jsonl has 0 rows whose image is the end of .*stranger\.png"):
        run(stranger, TRUE, model=comalign, components=regions, output_dir=tmp_path / "out")
    SCENE["image"].resize((16, 16)).save(regions / "other.png")
    with pytest.raises(ValueError, match=r"has other\.png of 32 x 32 pixels, now 16 x 16"):
        run(regions / "other.png", TRUE, model=comalign, components=regions, output_dir=tmp_path / "out")


def test_matches_of_every_kind_can_be_drawn(tmp_path):
    """Long captions and phrases, a relation, an empty slot, an image without a relation."""
    row = describe("a.png", (200, 160), SCENE["entities"], [CaptionComponents(TRUE, [], [])])
    long = RoleMatches(0.5, [Match("a phrase " * 12, 0, (0,), 0.5), Match("a dog", None, (), -0.25)])
    pairs = RoleMatches(0.5, [Match("dog on a bed", 0, row.relations[0].pair, 0.5)])
    captions = [
        CaptionMatches("a caption " * 30, 0.5, 0.5, long, pairs),
        CaptionMatches("a dog", 0.1, 0.1, RoleMatches(None, [Match("dog", None, (), None)]), RoleMatches(None, [])),
    ]
    figure = draw_matches(captions, row, Image.new("RGB", (200, 160)), "a.png", "a note " * 40, tmp_path / "score.png")
    assert Image.open(tmp_path / "score.png").height > 600
    assert figure.get_figheight() * 150 == pytest.approx(Image.open(tmp_path / "score.png").height, abs=1)


def test_pictures_are_returned_and_written_only_where_a_path_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bars = [Bar(TRUE, 0.75, "share 75 %"), Bar(FALSE, 0.25, "share 25 %")]
    figure = draw_bars(bars, SCENE["image"], "a.png", "a note")
    widths = {patch.get_width() for axes in figure.axes for patch in axes.patches}
    assert max(widths) * 0.25 in widths
    assert list(tmp_path.iterdir()) == []
