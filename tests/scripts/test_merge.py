"""`compalign merge`: an adapter of a tiny CLIP becomes a plain model with the same answers."""

from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor, CLIPModel

from compalign.modeling import load_model
from compalign.scripts import cli, merge


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A tiny CLIP with its processor."""
    folder = tmp_path_factory.mktemp("base")
    tiny.make_model(CLIPModel).save_pretrained(folder)
    tiny.make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    """Random adapters of both its towers, without a processor of their own."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(CLIPModel.from_pretrained(base), config).save_pretrained(folder)
    return folder


def run(adapter: Path, output: Path) -> CLIPModel:
    """The command."""
    return merge.main(["--adapter", str(adapter), "--output_dir", str(output)])


def test_a_merged_model_is_plain_and_answers_as_the_adapter(base, adapter, tmp_path, capsys):
    run(adapter, tmp_path / "merged")
    printed = capsys.readouterr().out
    assert printed.startswith(f"{tmp_path / 'merged'}: a plain CLIPModel; answers on a fixed input change by ")
    assert float(printed.split()[-3]) < 1e-4
    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    merged, adapted, plain = (
        merge.answers(load_model(folder), processor) for folder in (tmp_path / "merged", adapter, base)
    )
    torch.testing.assert_close(merged["image_embeds"], adapted["image_embeds"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged["logits_per_image"], adapted["logits_per_image"], rtol=1e-4, atol=1e-4)
    assert (merged["image_embeds"] - plain["image_embeds"]).abs().max() > 0.01
    assert type(CLIPModel.from_pretrained(tmp_path / "merged")) is CLIPModel
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_a_whole_model_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match=r"is a whole CLIPModel, not an adapter"):
        run(base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_with_files_is_never_written_into(adapter, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert cli.main(["merge", "--adapter", str(adapter), "--output_dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"compalign merge: output_dir={tmp_path} is not empty; give a new folder\n"
