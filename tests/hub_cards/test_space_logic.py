"""The page without gradio: images and captions within limits, models, charts, texts, and what is refused."""

import ast
import io
import json
import random
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import tiny_multimodal
import torch
import yaml
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import CLIPModel, YolosConfig

from compalign.data.components import Entity
from compalign.evaluation.report import PALETTE
from compalign.evaluation.scorers.matches import CaptionMatches, Match, RoleMatches
from compalign.modeling import ComAlignConfig, ComAlignModel
from compalign.modeling.kinds import Kind
from compalign.scripts import space
from compalign.scripts.page import inputs as space_inputs
from compalign.scripts.page import models as space_models
from compalign.scripts.page import views as space_views
from compalign.scripts.page.inputs import (
    MOST_BYTES,
    MOST_CAPTIONS,
    MOST_CHARACTERS,
    add_foils,
    read_captions,
    read_image,
    scene_entities,
    scene_examples,
)
from compalign.scripts.page.models import Library, Scores
from compalign.scripts.tokens import TokenWeight, weigh_tokens
from compalign.trainers.launch.recipe import parse_recipe

CAPTIONS = ["a red cat above a blue star", "a blue cat above a red star", "a star"]


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    """A tiny model of each kind, and a second dual encoder."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("first", 0), ("second", 1)):
        model = tiny.make_model(CLIPModel)
        torch.manual_seed(seed)
        with torch.no_grad():
            model.text_projection.weight.normal_()
        model.save_pretrained(folder / name)
        tiny.make_processor().save_pretrained(folder / name)
    torch.manual_seed(0)
    # The encoder has moved since the heads were trained: it is offered under its old name.
    heads = ComAlignModel(ComAlignConfig(hidden_size=16, entities=4, relations=6, backbone="gone/first"))
    heads.save_pretrained(folder / "heads")
    tiny_multimodal.make_model("llava").save_pretrained(folder / "llava")
    tiny_multimodal.make_processor("llava").save_pretrained(folder / "llava")
    return Library({name: str(folder / name) for name in ("first", "heads", "llava", "second")})


@pytest.fixture
def image() -> Image.Image:
    """No scene of ours."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def saved(tmp_path, image: Image.Image, name: str = "photo.png", **options) -> str:
    """A file of an image."""
    image.save(tmp_path / name, **options)
    return str(tmp_path / name)


def test_an_uploaded_image_comes_as_it_is(tmp_path, image):
    assert read_image(saved(tmp_path, image)).tobytes() == image.tobytes()
    for name in ("photo.jpg", "photo.webp"):
        assert read_image(saved(tmp_path, image, name)).size == image.size


def test_an_image_that_is_missing_is_asked_for():
    with pytest.raises(ValueError, match="no image yet"):
        read_image(None)


def test_images_are_refused_by_bytes_pixels_format_and_damage_under_their_own_name(tmp_path, image, monkeypatch):
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(b"\0" * (MOST_BYTES + 1))
    wide = saved(tmp_path, Image.new("1", (8000, 5001)), "wide.png")
    animated = saved(tmp_path, image, "animated.gif")
    cut = tmp_path / "cut.png"
    content = io.BytesIO()
    image.save(content, "PNG")
    cut.write_bytes(content.getvalue()[:-200])
    words = tmp_path / "words.png"
    words.write_text("no picture")
    monkeypatch.setattr(space_inputs, "open_image", None)  # nothing is decoded to be refused
    for path, reason in (
        (heavy, r"10\.0 MB; accepted: at most 10 MB"),
        (wide, "8000 x 5001 pixels; accepted: at most 40,000,000 pixels"),
        (animated, "not an image in one of the formats JPEG, PNG, WEBP"),
        (cut, ""),
        (words, "not an image"),
    ):
        name = str(path).rsplit("/", 1)[1]
        with pytest.raises(ValueError, match=f"^{name}: .*{reason}") as refusal:
            read_image(str(path))
        assert str(tmp_path) not in str(refusal.value)


def test_captions_are_lines_without_the_empty_ones():
    assert read_captions("\n a  red cat \r\n\n\ta star\n") == ["a red cat", "a star"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no caption yet"),
        (" \n\n", "no caption yet"),
        ("\n".join(f"caption {k}" for k in range(MOST_CAPTIONS + 1)), f"9 captions; accepted: at most {MOST_CAPTIONS}"),
        (f"short\n{'x' * (MOST_CHARACTERS + 1)}", f"Caption 2 has 301 characters; accepted: at most {MOST_CHARACTERS}"),
        ("a star\na cat\na  star", "Caption 3 repeats caption 1"),
    ],
)
def test_captions_outside_the_limits_are_refused_in_words(text, reason):
    with pytest.raises(ValueError, match=reason):
        read_captions(text)


def test_captions_at_the_limits_are_accepted():
    lines = [f"{k}".ljust(MOST_CHARACTERS, "x") for k in range(MOST_CAPTIONS)]
    assert read_captions("\n".join(lines)) == lines


def test_foils_stand_below_the_captions_and_are_new_and_few_enough():
    text, told = add_foils("a brown dog chases a black cat\na cat")
    captions = read_captions(text)
    assert captions[:2] == ["a brown dog chases a black cat", "a cat"]
    assert 2 < len(captions) <= MOST_CAPTIONS
    assert told.startswith("Foils added: ")
    crowded = "\n".join([captions[0], *(f"a cat {number}" for number in range(MOST_CAPTIONS - 2))])
    assert len(read_captions(add_foils(crowded)[0])) == MOST_CAPTIONS


@pytest.mark.parametrize(
    ("text", "reason"),
    [("hello", "no further foil"), ("\n".join(f"a dog {k}" for k in range(MOST_CAPTIONS)), "captions already")],
)
def test_where_no_foil_can_be_added_the_captions_stay_and_the_reason_is_told(text, reason):
    assert add_foils(text)[0] == text
    assert reason in add_foils(text)[1]


def test_scenes_are_within_the_limits_and_their_objects_are_known_from_the_file(tmp_path):
    for number, scene in enumerate(scene_examples()):
        assert len(read_captions(scene.text)) == len(scene.captions) >= 2
        opened = read_image(saved(tmp_path, scene.image, f"{number}.png"))
        assert scene_entities(opened) == scene.entities
        opened.putpixel((0, 0), (1, 2, 3))
        assert scene_entities(opened) is None


def test_each_kind_of_model_is_offered_where_it_fits(library):
    assert library.names(Kind.DUAL_ENCODER) == ["first", "second"]
    assert library.names(Kind.COMALIGN) == ["heads"]
    assert library.names(Kind.IMAGE_TEXT_TO_TEXT) == ["llava"]


def test_models_of_another_kind_and_missing_ones_are_refused_in_words(library):
    with pytest.raises(ValueError, match=r"llava is an image-text-to-text model, .*; accepted: a dual encoder"):
        library.place("llava", Kind.DUAL_ENCODER)
    with pytest.raises(ValueError, match="No model is chosen; accepted: ComAlign's heads"):
        library.place("", Kind.COMALIGN)
    with pytest.raises(ValueError, match="Repo id"):
        library.place("../../etc/passwd", Kind.DUAL_ENCODER)
    with pytest.raises(ValueError, match="nobody/nothing cannot be loaded: "):
        library.place("nobody/nothing", Kind.DUAL_ENCODER)


def test_folders_are_closed_where_they_are_not_offered(library):
    folder = library.places["first"]
    assert Library({}).place(folder, Kind.DUAL_ENCODER) == folder
    with pytest.raises(ValueError, match="folders are closed here"):
        Library({}, folders=False).place(folder, Kind.DUAL_ENCODER)
    assert Library(library.places, folders=False).place("first", Kind.DUAL_ENCODER) == folder


def test_a_large_model_is_refused_before_anything_of_it_is_fetched(monkeypatch):
    files = [SimpleNamespace(rfilename=f"model{end}", size=3_000_000_000) for end in (".safetensors", ".bin")]
    info = SimpleNamespace(siblings=[*files, SimpleNamespace(rfilename="README.md", size=None)])
    monkeypatch.setattr(space_models.HfApi, "model_info", lambda self, name, files_metadata: info)
    monkeypatch.setattr(space_models, "read_kind", None)
    with pytest.raises(ValueError, match=r"big/model has 6\.0 GB of weights; accepted here: at most 4 GB"):
        Library({}, most_gigabytes=4).place("big/model", Kind.DUAL_ENCODER)


def repository_of(monkeypatch, *names: str) -> None:
    """Let every repository of the Hub hold these files."""
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=1) for name in names])
    monkeypatch.setattr(space_models.HfApi, "model_info", lambda self, name, files_metadata: info)
    monkeypatch.setattr(space_models, "read_kind", None)


def test_an_adapter_of_the_hub_which_may_name_a_closed_folder_is_refused(monkeypatch):
    repository_of(monkeypatch, "config.json", "model.safetensors", "adapter_config.json")
    with pytest.raises(ValueError, match="some/adapter is an adapter; accepted here: whole models"):
        Library({}, folders=False).place("some/adapter", Kind.DUAL_ENCODER)


def test_an_adapter_in_a_folder_is_merged_and_used(library, image, tmp_path):
    folder = adapter_on(library.places["first"], tmp_path / "adapter")
    place = Library({}).place(str(folder), Kind.DUAL_ENCODER)
    model, _ = space_models.load_dual_encoder(place)
    assert type(model) is CLIPModel
    base, _ = space_models.load_dual_encoder(library.places["first"])
    assert not torch.equal(model.text_model.encoder.layers[0].self_attn.q_proj.weight, query_of(base))
    (scores,) = space_models.compare(Library({}), [str(folder)], image, CAPTIONS)
    assert scores.model == "adapter"


def query_of(model) -> torch.Tensor:
    """A weight that the adapter changes."""
    return model.text_model.encoder.layers[0].self_attn.q_proj.weight


def adapter_on(base: str, folder: Path) -> Path:
    """A LoRA adapter that changes the model in a folder."""
    model = get_peft_model(CLIPModel.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.5)
    model.save_pretrained(folder)
    return folder


def test_no_pickle_is_read(library, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    model = CLIPModel.from_pretrained(library.places["first"])
    tiny.make_processor().save_pretrained(tmp_path / "pickled")
    model.config.save_pretrained(tmp_path / "pickled")
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickled cannot be loaded: .*safetensors"):
        space_models.load_dual_encoder(str(tmp_path / "pickled"))
    folder = adapter_on(library.places["first"], tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter has no adapter_model\.safetensors"):
        space_models.load_dual_encoder(str(folder))
    YolosConfig().save_pretrained(tmp_path / "detector")
    (tmp_path / "detector" / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"detector has none of model\.safetensors"):
        space_models.load_detector(str(tmp_path / "detector"))


def test_the_frozen_encoder_of_heads_is_read_as_safely_as_any_model(library, tmp_path, monkeypatch):
    """Left to itself, the model would load the encoder with other options, pickles included."""
    backbone = library.places["second"]
    model, _ = space_models.load_comalign(library.places["heads"], backbone)
    assert model.backbone is space_models.load_dual_encoder(backbone)[0]
    assert not any("backbone" in name for name in model.state_dict())


@pytest.mark.parametrize("part", ["AutoConfig", "AutoModel"])
def test_no_code_beside_a_model_is_run(library, tmp_path, monkeypatch, part):
    folder = tmp_path / "model"
    shutil.copytree(library.places["first"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {part: "evil.Evil"}
    if part == "AutoConfig":
        config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w').close()\nclass Evil:\n    pass\n")
    if part == "AutoConfig":
        with pytest.raises(ValueError, match="model cannot be loaded"):
            space_models.read_kind(str(folder))
    else:
        assert type(space_models.load_dual_encoder(str(folder))[0]) is CLIPModel
    assert not (tmp_path / "run").exists()


def test_shares_are_the_models_own_probabilities(library, image):
    found = space_models.compare(library, ["first", "second"], image, CAPTIONS)
    assert [scores.model for scores in found] == ["first", "second"]
    for scores in found:
        model, processor = space_models.load_dual_encoder(library.places[scores.model])
        inputs = processor(text=CAPTIONS, images=image, return_tensors="pt", padding=True)
        with torch.no_grad():
            expected = model(**inputs).logits_per_image.softmax(dim=-1)[0]
        torch.testing.assert_close(torch.tensor(scores.shares), expected, atol=1e-5, rtol=1e-4)
        assert scores.best == expected.argmax()
    assert found[0].cosines != found[1].cosines


def test_the_order_of_captions_does_not_change_their_scores(library, image):
    order = [2, 0, 1]
    (before,) = space_models.compare(library, ["first"], image, CAPTIONS)
    (after,) = space_models.compare(library, ["first"], image, [CAPTIONS[k] for k in order])
    assert after.shares == pytest.approx([before.shares[k] for k in order], abs=1e-6)


def test_captions_that_are_cut_off_are_counted(library, image):
    (scores,) = space_models.compare(library, ["first"], image, ["a star", "cat " * 40 + "above a star"])
    assert scores.truncated == 1
    assert "cut off the end of 1 captions" in space_views.verdict(["a", "b"], [scores])


def test_the_number_of_models_is_limited(library, image):
    for names in ([], ["first"] * 5):
        with pytest.raises(ValueError, match=f"{len(names)} models are chosen; accepted: 1 to 4"):
            space_models.compare(library, names, image, CAPTIONS)


def test_a_scene_needs_no_detector_and_every_phrase_gets_a_region(library):
    scene = scene_examples()[2]
    captions = read_captions(scene.text)
    row, matched = space_models.match(library, "heads", None, scene.image, captions)
    assert sorted(entity.box for entity in row.entities) == sorted(entity.box for entity in scene.entities)
    assert [caption.text for caption in matched] == captions
    for caption in matched:
        assert caption.entities.matches
        assert all(match.region is not None for match in caption.entities.matches)


def test_a_photograph_needs_a_detector_which_is_asked_for_the_phrases(library, image, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="name a detector, or choose one of the scenes"):
        space_models.match(library, "heads", None, image, CAPTIONS)
    with pytest.raises(ValueError, match="first is a dual encoder, such as CLIP; accepted: a detector"):
        space_models.match(library, "heads", "first", image, CAPTIONS)
    asked = []

    def detector(name, picture, phrases):
        asked.append((picture.size, phrases))
        return [Entity((1, 1, 20, 20), 0.9, "star"), Entity((-5, 3, 90, 30), 0.8, "cat")]

    YolosConfig().save_pretrained(tmp_path)
    monkeypatch.setattr(space_models, "load_detector", {str(tmp_path): detector}.__getitem__)
    row, matched = space_models.match(library, "heads", str(tmp_path), image, CAPTIONS)
    assert asked == [(image.size, ["red cat", "blue star", "blue cat", "red star", "star"])]
    assert [entity.box for entity in row.entities] == [(1, 1, 20, 20), (0, 3, 60, 30)]
    assert len(matched) == len(CAPTIONS)


def test_heads_open_no_folder_that_is_closed(library):
    heads, encoder = library.places["heads"], library.places["first"]
    assert Library({"first": encoder}, folders=False).backbone(heads) == encoder
    ComAlignModel(ComAlignConfig(hidden_size=16, backbone=encoder)).save_pretrained(Path(heads).with_name("others"))
    others = str(Path(heads).with_name("others"))
    assert Library({}).backbone(others) == encoder
    with pytest.raises(ValueError, match="folders are closed here"):
        Library({}, folders=False).backbone(others)


def test_heads_without_an_encoder_say_so(tmp_path):
    ComAlignModel(ComAlignConfig(hidden_size=16)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="names no frozen encoder"):
        space_models.match(Library({}), str(tmp_path), None, scene_examples()[0].image, CAPTIONS)


def test_weights_are_those_of_the_command(library, image):
    found = space_models.weigh(library, "llava", "What is it?", image, CAPTIONS)
    model, processor = space_models.load_image_text_to_text(library.places["llava"])
    assert found == [weigh_tokens(model, processor, image, "What is it?", caption) for caption in CAPTIONS]


def scores_of(*shares: float, model: str = "base") -> Scores:
    """Scores with these shares."""
    return Scores(model, [share / 10 for share in shares], list(shares), 0)


def test_the_chart_has_a_bar_a_caption_and_model_as_long_as_its_share():
    scores = [scores_of(0.7, 0.2, 0.1, model="a"), scores_of(0.3, 0.6, 0.1, model="b")]
    figure = space_views.score_figure(CAPTIONS, scores)
    assert figure.get_figwidth() == space_views.WIDTH
    (axes,) = figure.axes
    for colour, model in zip(PALETTE, scores, strict=False):
        bars = [bar for bar in axes.patches if bar.get_facecolor() == pytest.approx(rgba(colour))][1:]
        widths = [bar.get_width() / space_views.LONGEST for bar in bars]
        assert widths == pytest.approx(model.shares)
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert bold == {"1  a red cat above a blue star", "70% · 0.070", "60% · 0.060"}


def rgba(colour: str) -> tuple[float, ...]:
    """A colour's four shares."""
    from matplotlib.colors import to_rgba

    return to_rgba(colour)


def test_eight_long_captions_and_four_models_stay_inside_the_chart():
    rng = random.Random(0)
    captions = [" ".join(rng.choices(["large", "orange", "flower"], k=45))[:MOST_CHARACTERS] for _ in range(8)]
    figure = space_views.score_figure(captions, [scores_of(*[0.125] * 8, model=f"m{k}") for k in range(4)])
    figure.canvas.draw()
    outer = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= outer.x0
        assert box.x1 <= outer.x1
        assert outer.y0 <= box.y0


def test_the_verdict_says_who_is_right():
    text = space_views.verdict(CAPTIONS, [scores_of(0.7, 0.2, 0.1), scores_of(0.2, 0.7, 0.1, model="a_b")])
    assert text.splitlines() == [
        "- base prefers caption 1, the true one (70%)",
        r"- a\_b prefers caption 2, **not the true one** (70%)",
    ]
    assert "nothing to choose from" in space_views.verdict(CAPTIONS[:1], [scores_of(1.0)])


def test_what_visitors_type_is_no_markup():
    typed = "<script>alert(1)</script> | **bold**"
    table = space_views.score_table([typed], [scores_of(1.0)])
    assert r"\<script\>" in table
    assert r"\| \*\*bold\*\*" in table
    part = RoleMatches(None, [Match(typed, None, (), None)])
    row = SimpleNamespace(entities=[], relations=[])
    pages = [
        space_views.match_page(row, [CaptionMatches(typed, 0.5, 0.5, part, RoleMatches(None, []))]),
        space_views.token_page([[TokenWeight("<script>", 0.0, 1.0)]]),
    ]
    for page in pages:
        assert "<script>" not in page
        assert "&lt;script&gt;" in page


def test_each_phrase_is_shown_with_its_regions_counted_from_one():
    entities = RoleMatches(0.4, [Match("red cat", 2, (2,), 0.61), Match("star", None, (), None)])
    relations = RoleMatches(0.3, [Match("cat above star", 0, (0, 2), -0.25)])
    captions = [
        CaptionMatches("one", 0.4, 0.5, entities, relations),
        CaptionMatches("two", 0.3, 0.5, RoleMatches(None, []), RoleMatches(None, [])),
    ]
    page = space_views.match_page(SimpleNamespace(entities=[], relations=[]), captions)
    lines = [line.split("</li>")[0] for line in page.split("<li>")[1:]]
    assert ">3</b>" in lines[0]
    assert "0.61" in lines[0]
    assert "none" in lines[1]
    assert ">1</b>+<b" in lines[2]
    assert "-0.25" in lines[2]
    assert "no phrase was found" in lines[3]
    assert page.count("highest score") == 1
    assert page.index("highest score") < page.index("two")


def test_a_token_has_the_colour_of_its_weight():
    page = space_views.token_page([[TokenWeight("▁a", 0.0, 1.0), TokenWeight("▁star", 9.0, 5.0)]])
    assert '<ruby style="background:#ffffcc;color:black">a<rt>1.0</rt></ruby>' in page
    assert '<ruby style="background:#800026;color:white">star<rt>5.0</rt></ruby>' in page


def test_the_picture_of_regions_keeps_the_images_shape(image):
    row = SimpleNamespace(entities=[Entity((0, 0, 30, 40), 1.0, "star"), Entity((30, 0, 60, 40), 1.0, "cat")])
    figure = space_views.region_figure(image, row)
    assert figure.get_figwidth() / figure.get_figheight() == pytest.approx(60 / 40)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]


def test_the_released_models_are_offered_before_those_given(library, tmp_path):
    places = space.offered([library.places["first"], "openai/clip-vit-base-patch32"])
    assert "scenes_base" in places
    assert list(places)[-2:] == ["first", "openai/clip-vit-base-patch32"]
    (tmp_path / "first").mkdir()
    with pytest.raises(ValueError, match="two models are called first"):
        space.offered([library.places["first"], str(tmp_path / "first")])


def test_without_gradio_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r'pip install "compalign\[space\]"'):
        space.main([])


def test_the_space_on_the_hub_is_closed_to_folders_and_names_what_exists(repository, monkeypatch):
    folder = repository / "hub_cards" / "space"
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert header["sdk"] == "gradio"
    called = []
    monkeypatch.setattr(space, "main", called.append)
    runpy.run_path(str(folder / header["app_file"]), run_name="__main__")
    (args,) = parse_recipe(space.SpaceArguments, arguments=called[0])
    assert args.folders is False
    assert args.most_gigabytes == 4
    assert len(header["short_description"]) <= 60  # the Hub refuses longer ones


def test_the_space_on_the_hub_requires_what_compalign_requires(repository):
    """compalign itself lies beside the page: it is on no index, so its name would find nothing, or someone else's."""
    folder = repository / "hub_cards" / "space"
    lines = (folder / "requirements.txt").read_text().splitlines()
    required = {line for line in lines if line and not line.startswith(("#", "--"))}
    setup = ast.parse((repository / "setup.py").read_text())
    (called,) = (node for node in ast.walk(setup) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    declared = {word.arg: word.value for word in called.keywords}
    (extras,) = (
        node.value for node in setup.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS"
    )
    expected = ast.literal_eval(declared["install_requires"]) + ast.literal_eval(extras)["space"]
    assert required == set(expected)
    for path in folder.iterdir():
        if path.is_file():
            assert not re.search(r"OWNER|git\+https|TODO|<\w+>", path.read_text()), path
