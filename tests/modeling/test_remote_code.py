"""A saved folder is complete: a process that cannot import compalign loads it, embeds the same and saves it again."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from compalign.modeling import CECLIPConfig, CECLIPModel, DeGLACLIPConfig, DeGLACLIPModel

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

from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel

for folder in sys.argv[1:]:
    inputs = load_file(f"{folder}/inputs.safetensors")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    model.save_pretrained(f"{folder}/again")
    again = AutoModel.from_pretrained(f"{folder}/again", trust_remote_code=True)
    plain = CLIPModel.from_pretrained(folder)
    outputs = {}
    for name, loaded in {"remote": model, "again": again, "plain": plain}.items():
        answer = loaded(**inputs)
        fields = ("text_embeds", "image_embeds", "rank_threshold")
        outputs.update({f"{name}.{field}": answer[field].detach().clone() for field in fields if field in answer})
    save_file(outputs, f"{folder}/outputs.safetensors")
    classes = {name: f"{type(m).__module__}.{type(m).__name__}" for name, m in (("remote", model), ("again", again))}
    with open(f"{folder}/classes.json", "w") as file:
        json.dump(classes, file)
if any(name.split(".")[0] == "compalign" for name in sys.modules):
    sys.exit("compalign was imported")
'''

MODELS = {"degla_clip": (DeGLACLIPConfig, DeGLACLIPModel), "ce_clip": (CECLIPConfig, CECLIPModel)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clip_sizes, caption_batch):
    """Each model saved here, and read by one process without compalign that starts in an empty folder."""
    top = tmp_path_factory.mktemp("remote")
    for name, (config_class, model_class) in MODELS.items():
        torch.manual_seed(0)
        model = model_class(config_class(**clip_sizes()))
        for buffer in model.buffers(recurse=False):
            buffer.fill_(0.75)
        model.save_pretrained(top / name)
        save_file(caption_batch(3, 2), top / name / "inputs.safetensors")
    nowhere = top / "nowhere"
    nowhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *(str(top / name) for name in MODELS)],
        cwd=nowhere,
        env={**environment, "HF_HOME": str(top / "hf-home"), "HF_HUB_OFFLINE": "1"},
        check=True,
    )
    return top


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_are_the_same_without_compalign(folders, name):
    model = MODELS[name][1].from_pretrained(folders / name)
    outputs = load_file(folders / name / "outputs.safetensors")
    expected = model(**load_file(folders / name / "inputs.safetensors"))
    for reader in ("remote", "again", "plain"):
        for field in ("text_embeds", "image_embeds"):
            torch.testing.assert_close(outputs[f"{reader}.{field}"], expected[field], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_code_comes_from_the_folder(folders, name):
    for module in json.loads((folders / name / "classes.json").read_text()).values():
        assert module.startswith("transformers_modules.")
        assert module.endswith(f"modeling_{name}.{MODELS[name][1].__name__}")


@pytest.mark.parametrize("name", MODELS)
def test_the_folder_is_flat_and_saving_it_again_keeps_every_file(folders, name):
    code = {"configuration_" + name + ".py", "modeling_" + name + ".py", "grouped_text.py"}
    for folder in (folders / name, folders / name / "again"):
        assert {path.name for path in folder.glob("*.py")} == code
        assert not any(path.is_symlink() for path in folder.iterdir())
        assert set(json.loads((folder / "config.json").read_text())["auto_map"]) == {"AutoConfig", "AutoModel"}


def test_thresholds_travel_with_the_weights(folders):
    outputs = load_file(folders / "ce_clip" / "outputs.safetensors")
    for reader in ("remote", "again"):
        assert outputs[f"{reader}.rank_threshold"].tolist() == [0.75] * 4
