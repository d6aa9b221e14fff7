"""A saved folder is complete: a process that cannot import compalign loads it, answers the same and saves it again."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import tiny_multimodal
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, CLIPModel, PreTrainedModel

from compalign.modeling import (
    CECLIPModel,
    DeGLACLIPModel,
    LlavaCALForConditionalGeneration,
    LlavaNextCALForConditionalGeneration,
)

ELSEWHERE = '''
import json
import sys


class NoCompalign:
    """Stands before every other finder, so that neither an editable nor a regular install is seen."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compalign":
            raise ImportError("compalign is not installed here")


sys.meta_path.insert(0, NoCompalign())
try:
    import compalign.modeling
except ImportError:
    pass
else:
    sys.exit("compalign can be imported")

import transformers
from safetensors.torch import load_file, save_file

for folder, (auto_class, plain_class) in json.loads(sys.argv[1]).items():
    # Without trust: no code of the folder is needed to read its processor
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = load_file(f"{folder}/inputs.safetensors")
    auto_class = getattr(transformers, auto_class)
    model = auto_class.from_pretrained(folder, trust_remote_code=True)
    model.save_pretrained(f"{folder}/again")
    again = auto_class.from_pretrained(f"{folder}/again", trust_remote_code=True)
    plain = getattr(transformers, plain_class).from_pretrained(folder)
    outputs = {"processor.input_ids": processor.tokenizer("is the cube red?", return_tensors="pt").input_ids}
    for name, loaded in {"remote": model, "again": again, "plain": plain}.items():
        answer = loaded(**inputs)
        fields = ("text_embeds", "image_embeds", "rank_threshold", "logits")
        outputs.update({f"{name}.{field}": answer[field].detach().clone() for field in fields if field in answer})
    save_file(outputs, f"{folder}/outputs.safetensors")
    classes = {name: f"{type(m).__module__}.{type(m).__name__}" for name, m in (("remote", model), ("again", again))}
    with open(f"{folder}/classes.json", "w") as file:
        json.dump({"processor": type(processor).__name__, **classes}, file)
if any(name.split(".")[0] == "compalign" for name in sys.modules):
    sys.exit("compalign was imported")
'''


class Saved(NamedTuple):
    """A model of ours, the class of transformers that it extends, its Auto class, outputs to compare, its code."""

    model_class: type[PreTrainedModel]
    plain_class: str
    auto_class: str
    fields: tuple[str, ...]
    code: set[str]


CLIP_CODE = {"configuration_grouped_clip.py", "grouped_text.py", "modeling_grouped_clip.py"}
DEGLA_CODE = CLIP_CODE | {"configuration_degla_clip.py", "modeling_degla_clip.py"}
CE_CODE = CLIP_CODE | {"configuration_ce_clip.py", "modeling_ce_clip.py"}
LLAVA_CODE = {"configuration_llava_cal.py", "modeling_llava_cal.py"}
EMBEDS, LOGITS, MULTIMODAL = ("text_embeds", "image_embeds"), ("logits",), "AutoModelForImageTextToText"
LLAVA, LLAVA_NEXT = "LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"
MODELS = {
    "degla_clip": Saved(DeGLACLIPModel, "CLIPModel", "AutoModel", EMBEDS, DEGLA_CODE),
    "ce_clip": Saved(CECLIPModel, "CLIPModel", "AutoModel", EMBEDS, CE_CODE),
    "llava_cal": Saved(LlavaCALForConditionalGeneration, LLAVA, MULTIMODAL, LOGITS, LLAVA_CODE),
    "llava_next_cal": Saved(LlavaNextCALForConditionalGeneration, LLAVA_NEXT, MULTIMODAL, LOGITS, LLAVA_CODE),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clip_sizes, caption_batch, clip_folder):
    """Each model saved here, and read by one process without compalign that starts in an empty folder."""
    top = tmp_path_factory.mktemp("remote")
    for name, saved in MODELS.items():
        torch.manual_seed(0)
        if issubclass(saved.model_class, CLIPModel):
            model = saved.model_class(saved.model_class.config_class(**clip_sizes()))
            for buffer in model.buffers(recurse=False):
                buffer.fill_(0.75)
            processor, inputs = AutoProcessor.from_pretrained(clip_folder), caption_batch(3, 2)
        else:
            family = name.removesuffix("_cal")
            tiny_multimodal.make_model(family).save_pretrained(top / name)
            model = saved.model_class.from_pretrained(top / name)
            processor, inputs = tiny_multimodal.make_processor(family), tiny_multimodal.make_batch(family)
        model.save_pretrained(top / name)
        processor.save_pretrained(top / name)
        save_file(inputs, top / name / "inputs.safetensors")
    nowhere = top / "nowhere"
    nowhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    readers = {str(top / name): (saved.auto_class, saved.plain_class) for name, saved in MODELS.items()}
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(readers)],
        cwd=nowhere,
        env={**environment, "HF_HOME": str(top / "hf-home"), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return top


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_same_without_compalign(folders, name):
    model = MODELS[name].model_class.from_pretrained(folders / name)
    outputs = load_file(folders / name / "outputs.safetensors")
    expected = model(**load_file(folders / name / "inputs.safetensors"))
    for reader in ("remote", "again", "plain"):
        for field in MODELS[name].fields:
            torch.testing.assert_close(outputs[f"{reader}.{field}"], expected[field], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_processor_is_the_same_without_compalign(folders, name):
    processor = AutoProcessor.from_pretrained(folders / name)
    assert json.loads((folders / name / "classes.json").read_text())["processor"] == type(processor).__name__
    ids = load_file(folders / name / "outputs.safetensors")["processor.input_ids"]
    assert torch.equal(ids, processor.tokenizer("is the cube red?", return_tensors="pt").input_ids)


@pytest.mark.parametrize("name", MODELS)
def test_the_code_comes_from_the_folder(folders, name):
    model_class = MODELS[name].model_class
    classes = json.loads((folders / name / "classes.json").read_text())
    for module in (classes["remote"], classes["again"]):
        assert module.startswith("transformers_modules.")
        assert module.endswith(f"{model_class.__module__.rpartition('.')[2]}.{model_class.__name__}")


@pytest.mark.parametrize("name", MODELS)
def test_the_folder_is_flat_and_saving_it_again_keeps_every_file(folders, name):
    for folder in (folders / name, folders / name / "again"):
        assert {path.name for path in folder.glob("*.py")} == MODELS[name].code
        assert not any(path.is_symlink() for path in folder.iterdir())
        named = json.loads((folder / "config.json").read_text())["auto_map"]
        assert set(named) == {"AutoConfig", MODELS[name].auto_class}


def test_thresholds_travel_with_the_weights(folders):
    outputs = load_file(folders / "ce_clip" / "outputs.safetensors")
    for reader in ("remote", "again"):
        assert outputs[f"{reader}.rank_threshold"].tolist() == [0.75] * 4
