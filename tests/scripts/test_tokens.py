"""compalign tokens: weights of the tokens of an answer, by a model of the right kind, printed and drawn."""

import pytest
import tiny
import tiny_multimodal
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import CLIPModel

from compalign.data.scenes import generate_scene, render
from compalign.modeling import load_model, load_processor
from compalign.scripts import cli, tokens

TEXT = "a red cat above a blue star"
IMAGE = render(generate_scene(0), tiny_multimodal.IMAGE_SIZE)


@pytest.fixture
def line(tmp_path):
    """The flags of a command on a scene, without the model."""
    IMAGE.save(tmp_path / "scene.png")
    return ["--image", str(tmp_path / "scene.png"), "--text", TEXT, "--output_dir", str(tmp_path / "out")]


@pytest.fixture
def llava(tmp_path):
    for part in (tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava")):
        part.save_pretrained(tmp_path / "llava")
    return tmp_path / "llava"


def test_weights_are_within_the_clamp_and_follow_the_deltas(llava, line, tmp_path, capsys):
    found = tokens.main(["--model", str(llava), *line, "--cal_clamp", "0.5", "2", "--cal_window", "1"])
    processor = load_processor(llava)
    assert [token for token, *_ in found] == [*processor.tokenizer.tokenize(TEXT), "</s>"]
    for _, delta, weight in found:
        assert weight == pytest.approx(min(max(delta, 0.5), 2), abs=1e-5)
    printed = capsys.readouterr().out
    assert f"{found[0].delta:7.2f}  {found[0].weight:6.2f}" in printed
    with Image.open(tmp_path / "out" / "tokens.png") as picture:
        assert picture.format == "PNG"
    page = (tmp_path / "out" / "tokens.html").read_text()
    assert page.count("<span") == len(found)


def test_an_adapter_is_weighed_over_its_base(llava, line, tmp_path):
    model = get_peft_model(load_model(llava), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    base = [delta for _, delta, _ in tokens.main(["--model", str(llava), *line])]
    adapted = [delta for _, delta, _ in tokens.main(["--model", str(tmp_path / "adapter"), *line])]
    expected = tokens.weigh_tokens(model.merge_and_unload(), load_processor(llava), IMAGE, "Describe the image.", TEXT)
    assert adapted == pytest.approx([delta for _, delta, _ in expected], abs=1e-4)
    assert adapted != pytest.approx(base, abs=1e-3)


def test_a_dual_encoder_is_refused_in_one_sentence(line, tmp_path, capsys):
    tiny.make_model(CLIPModel).save_pretrained(tmp_path / "clip")
    assert cli.main(["tokens", "--model", str(tmp_path / "clip"), *line]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"compalign tokens: {tmp_path / 'clip'} is a dual encoder, such as CLIP; "
        "accepted: an image-text-to-text model, such as LLaVA"
    )


@pytest.mark.parametrize("clamp", [["5", "1"], ["1"], ["1", "2", "3"]])
def test_a_clamp_that_is_no_range_is_refused(clamp, line):
    with pytest.raises(ValueError, match="must be two numbers, the least weight and the largest"):
        tokens.main(["--model", "any", *line, "--cal_clamp", *clamp])


def test_the_picture_is_returned_and_written_only_where_a_path_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = [tokens.TokenWeight("▁star", 9.0, 5.0)] * 11
    figure = tokens.draw_weights(weights, IMAGE)
    assert [len(axes.patches) for axes in figure.axes][1] == 11
    assert list(tmp_path.iterdir()) == []
