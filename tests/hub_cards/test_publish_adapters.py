"""An adapter that was trained is published alone; a stranger loads it from the Hub over its base, or merged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, environment
from safetensors.torch import load_file

SUPPORT = Path(__file__).parents[1] / "support"

# Runs with compalign, this hub and nothing else: bases are published, adapters on them trained and published alone.
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path

import tiny
import tiny_cal
import tiny_multimodal
from huggingface_hub import HfApi
from safetensors.torch import save_file
from transformers import CLIPModel

from compalign.evaluation import Results
from compalign.hub_cards import load_back, write_card
from compalign.hub_cards.publishing import publish
from compalign.hub_cards.upload import upload
from compalign.modeling import DeGLACLIPModel, LlavaCALForConditionalGeneration
from compalign.scripts import merge
from compalign.trainers.adapters import AdapterArguments, add_adapters
from compalign.trainers.launch.run import train_and_save

top, released = map(Path, sys.argv[1:])
results = Results.from_json(released / "results.json")
settings = {"max_steps": 2, "learning_rate": 1e-2, "optim": "adamw_torch"}


def put_base(name, model, processor):
    model.save_pretrained(top / name)
    processor.save_pretrained(top / name)
    upload(top / name, f"me/{name}", HfApi())


put_base("clip", tiny.make_model(CLIPModel), tiny.make_processor())
put_base("llava", tiny_multimodal.make_model("llava"), tiny_multimodal.make_processor("llava"))
adapters = AdapterArguments(lora_rank=2, use_dora=True)
dual = add_adapters(DeGLACLIPModel.from_pretrained("me/clip"), adapters)
adapters = AdapterArguments(lora_rank=2, use_dora=True, adapted=["text"])
multimodal = add_adapters(LlavaCALForConditionalGeneration.from_pretrained("me/llava"), adapters)
trainers = {
    "degla": tiny.make_trainer("degla", top / "degla", tiny.make_rows(8), model=dual, **settings),
    "cal": tiny_cal.make_trainer(top / "cal", tiny_cal.make_rows(8), multimodal, **settings),
}
for method, base in (("degla", "me/clip"), ("cal", "me/llava")):
    trainer = trainers[method]
    train_and_save(trainer)
    write_card(top / method, method, replace(results, model=method), {"seed": 0}, base_model=base)
    results.to_json(top / method / "results.json")
    publish(top / method, f"me/{method}").to_json(top / method / "publication.json")
    answers = load_back.fingerprint(trainer.model, load_back.load_processor(top / method)).answers
    save_file(answers, top / f"{method}.safetensors")
    merge.main(["--adapter", f"me/{method}", "--output_dir", str(top / f"merged-{method}")])
"""

# Runs where compalign cannot be imported, with an empty cache.
READER = """
import sys

sys.modules["compalign"] = None
import peft
import transformers
from safetensors.torch import save_file

from load_back import fingerprint

top = sys.argv[1]
for name in ("degla", "cal"):
    auto_class = transformers.AutoModelForImageTextToText if name == "cal" else transformers.AutoModel
    processor = transformers.AutoProcessor.from_pretrained(f"me/{name}")
    base = auto_class.from_pretrained("me/llava" if name == "cal" else "me/clip")
    models = {
        "transformers": auto_class.from_pretrained(f"me/{name}"),
        "peft": peft.PeftModel.from_pretrained(base, f"me/{name}"),
        "merged": auto_class.from_pretrained(f"{top}/merged-{name}", trust_remote_code=True),
    }
    for way, model in models.items():
        save_file(fingerprint(model, processor).answers, f"{top}/{name}.{way}.safetensors")
"""


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def top(hub, repository, tmp_path_factory):
    """A folder with the answers of every adapted model: where it was trained, and where it was loaded from the hub."""
    top = tmp_path_factory.mktemp("top")
    released = repository / "hub_cards" / "released" / "scenes_base"
    writer = environment(hub, str(top / "writer")) | {"PYTHONPATH": str(SUPPORT), "TMPDIR": str(top)}
    subprocess.run([sys.executable, "-c", WRITER, str(top), str(released)], env=writer, cwd=top, check=True)
    alone = top / "alone"
    alone.mkdir()
    (alone / "load_back.py").write_bytes((repository / "hub_cards" / "load_back.py").read_bytes())
    reader = environment(hub, str(top / "reader")) | {"PYTHONPATH": str(alone)}
    subprocess.run([sys.executable, "-c", READER, str(top)], env=reader, cwd=alone, check=True)
    return top


@pytest.mark.parametrize("way", ["transformers", "peft", "merged"])
@pytest.mark.parametrize("name", ["degla", "cal"])
def test_a_stranger_gets_the_same_answers_over_the_base(top, name, way):
    logits = "logits" if name == "cal" else "logits_per_image"
    expected, found = load_file(top / f"{name}.safetensors")[logits], load_file(top / f"{name}.{way}.safetensors")
    assert found[logits].sub(expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["degla", "cal"])
def test_the_repository_holds_the_adapter_its_processor_and_its_card_alone(top, hub, name):
    files = hub.repositories[f"me/{name}"].files()
    weights = [file for file in files if file.endswith(".safetensors")]
    assert weights == ["adapter_model.safetensors"]
    assert "config.json" not in files
    base = "me/llava" if name == "cal" else "me/clip"
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == base
    left_out = json.loads((top / name / "publication.json").read_text())["left_out"]
    assert {"training_args.bin", "trainer_state.json", "run.json"} <= set(left_out)
    card = files["README.md"].decode()
    assert f'from_pretrained("me/{name}"' in card
    assert base in card
