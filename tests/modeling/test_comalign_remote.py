"""A saved ComAlign is complete: a process that cannot import compalign reads and saves it, processor included."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor

from compalign.modeling import ComAlignConfig, ComAlignModel, ComAlignProcessor

ELSEWHERE = """
import sys


class NoCompalign:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compalign":
            raise ImportError("compalign is not installed here")


sys.meta_path.insert(0, NoCompalign())
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor

source, target = sys.argv[1:]
outputs = {}
for folder in (source, target):
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    assert type(processor).__module__.startswith("transformers_modules."), type(processor)
    inputs = processor(
        images=[Image.linear_gradient("L")], regions=[{"entities": [(0, 0, 99, 99)]}],
        text=["a red cube left of a ball"], phrases=[{"entities": ["a red cube"]}],
    )
    with torch.no_grad():
        outputs[folder] = {name: value.clone() for name, value in model(**inputs).items()}
    model.save_pretrained(target)
    processor.save_pretrained(target)
assert all(torch.equal(value, outputs[target][name]) for name, value in outputs[source].items())
save_file(outputs[source], target + "/outputs.safetensors")
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clip_folder):
    """A model and its processor, saved here, then read and saved again there."""
    source, target = tmp_path_factory.mktemp("comalign"), tmp_path_factory.mktemp("again")
    torch.manual_seed(0)
    ComAlignModel(ComAlignConfig(backbone=clip_folder, hidden_size=16)).save_pretrained(source)
    clip = AutoProcessor.from_pretrained(clip_folder)
    ComAlignProcessor(clip.image_processor, clip.tokenizer).save_pretrained(source)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(source), str(target)],
        cwd=tmp_path_factory.mktemp("nowhere"),
        env={**environment, "HF_HOME": str(tmp_path_factory.mktemp("hf-home")), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return source, target


def test_outputs_are_the_same_without_compalign(folders):
    source, target = folders
    model = ComAlignModel.from_pretrained(source)
    inputs = AutoProcessor.from_pretrained(source)(
        images=[Image.linear_gradient("L")],
        regions=[{"entities": [(0, 0, 99, 99)]}],
        text=["a red cube left of a ball"],
        phrases=[{"entities": ["a red cube"]}],
    )
    outputs = load_file(target / "outputs.safetensors")
    assert {"image_components", "text_components", "image_embeds", "text_embeds"} < set(outputs)
    for name, value in model(**inputs).items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-5, atol=1e-6)


def test_the_folder_is_flat_and_saving_it_again_keeps_every_file(folders):
    code = {
        f"{name}.py" for name in ("configuration_comalign", "modeling_comalign", "processing_comalign", "similarity")
    }
    for folder in folders:
        assert {path.name for path in folder.glob("*.py")} == code
        config = json.loads((folder / "config.json").read_text())
        named = config["auto_map"] | json.loads((folder / "processor_config.json").read_text())["auto_map"]
        assert set(named) == {"AutoConfig", "AutoModel", "AutoProcessor"}
        stored = load_file(folder / "model.safetensors")
        assert {name.partition(".")[0] for name in stored} == {"image_head", "text_head", "logit_scale"}
