"""What is published loads from the Hub in a process without compalign and answers as before; push_to_hub works too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, environment
from safetensors.torch import load_file

SUPPORT = Path(__file__).parents[1] / "support"

# Runs with compalign, this hub and nothing else: tiny models are made, published and pushed.
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path

import peft
import tiny
import tiny_multimodal
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from compalign.evaluation import Results
from compalign.hub_cards import load_back, write_card
from compalign.hub_cards.publishing import publish
from compalign.hub_cards.upload import upload
from compalign.modeling import LlavaCALForConditionalGeneration
from compalign.scripts.scenes.fine_tuning import METHODS

top, released = map(Path, sys.argv[1:])
results = Results.from_json(released / "results.json")


def document(folder, method):
    write_card(folder, method, replace(results, model=folder.name), {"seed": 0})
    results.to_json(folder / "results.json")


def remember(name, model, processor):
    save_file(load_back.fingerprint(model, processor).answers, top / f"{name}.safetensors")


processor = tiny.make_processor()
for method, (model_class, *_) in METHODS.items():
    model = tiny.make_model(model_class)
    model.push_to_hub(f"me/pushed-{method}", private=True)
    processor.push_to_hub(f"me/pushed-{method}", private=True)
    remember(f"pushed-{method}", model, processor)

folder = top / "llava"
tiny_multimodal.make_model("llava").save_pretrained(folder)
model = LlavaCALForConditionalGeneration.from_pretrained(folder)
model.push_to_hub("me/pushed-llava", private=True)
tiny_multimodal.make_processor("llava").push_to_hub("me/pushed-llava", private=True)
remember("pushed-llava", model, tiny_multimodal.make_processor("llava"))

settings = {"push_to_hub": True, "hub_model_id": "me/trained", "hub_private_repo": True, "max_steps": 1}
trainer = tiny.make_trainer("degla", top / "trained", tiny.make_rows(4), **settings)
trainer.train()
trainer.push_to_hub()
remember("trained", trainer.model, processor)

folder = top / "degla"
model = tiny.make_model(METHODS["degla"][0])
model.save_pretrained(folder)
processor.save_pretrained(folder)
torch.save({}, folder / "training_args.bin")
document(folder, "degla")
publish(folder, "me/degla", tag="v1").to_json(folder / "publication.json")
remember("degla", model, processor)

base = top / "base"
plain = tiny.make_model(METHODS["negclip"][0])
plain.save_pretrained(base)
processor.save_pretrained(base)
upload(base, "me/base", HfApi())
adapter = top / "adapter"
lora = peft.LoraConfig(target_modules=r"text_model.*[qv]_proj", init_lora_weights=False)
tuned = peft.get_peft_model(type(plain).from_pretrained("me/base"), lora)
tuned.save_pretrained(adapter)
document(adapter, "negclip")
publish(adapter, "me/adapter", private=False)
remember("adapter", tuned.base_model.model, processor)
"""

# Runs where compalign cannot be imported, with an empty cache.
READER = """
import json
import sys

sys.modules["compalign"] = None
import transformers
from PIL import Image
from safetensors.torch import save_file

from load_back import fixed_inputs

top = sys.argv[1]
for name, auto_class, processor in json.loads(sys.argv[2]):
    model = getattr(transformers, auto_class).from_pretrained(f"me/{name}", trust_remote_code=True)
    processor = transformers.AutoProcessor.from_pretrained(f"me/{processor}")
    output = model.eval()(**fixed_inputs(processor))
    logits = output["logits" if "logits" in output else "logits_per_image"]
    save_file({"logits": logits.detach().clone()}, f"{top}/{name}.read.safetensors")
"""
READ = {
    "pushed-negclip": "AutoModel",
    "pushed-ceclip": "AutoModel",
    "pushed-degla": "AutoModel",
    "pushed-llava": "AutoModelForImageTextToText",
    "trained": "AutoModel",
    "degla": "AutoModel",
    "adapter": "AutoModel",
}


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def top(hub, repository, tmp_path_factory):
    """A folder with the answers of every model: by the process that made it, and by one that found it on the hub."""
    top = tmp_path_factory.mktemp("top")
    released = repository / "hub_cards" / "released" / "scenes_base"
    writer = environment(hub, str(top / "writer")) | {"PYTHONPATH": str(SUPPORT), "TMPDIR": str(top)}
    subprocess.run([sys.executable, "-c", WRITER, str(top), str(released)], env=writer, cwd=top, check=True)
    alone = top / "alone"
    alone.mkdir()
    (alone / "load_back.py").write_bytes((repository / "hub_cards" / "load_back.py").read_bytes())
    read = [(name, auto_class, "base" if name == "adapter" else name) for name, auto_class in READ.items()]
    reader = environment(hub, str(top / "reader")) | {"PYTHONPATH": str(alone)}
    subprocess.run([sys.executable, "-c", READER, str(top), json.dumps(read)], env=reader, cwd=alone, check=True)
    return top


@pytest.mark.parametrize("name", READ)
def test_a_downloader_without_compalign_gets_the_same_answers(top, name):
    answers = load_file(top / f"{name}.safetensors")
    expected = answers["logits" if "logits" in answers else "logits_per_image"]
    assert load_file(top / f"{name}.read.safetensors")["logits"].sub(expected).abs().max() < 1e-5


def test_the_revision_holds_what_was_checked_and_the_record_says_so(top, hub):
    record = json.loads((top / "degla" / "publication.json").read_text())
    files = hub.repositories["me/degla"].files(record["commit"])
    assert set(files) - {".gitattributes"} == set(record["files"])
    assert {name: len(files[name]) for name in record["files"]} == {n: f["size"] for n, f in record["files"].items()}
    assert record["left_out"] == ["training_args.bin"]
    assert record["changed"] is True
    assert hub.repositories["me/degla"].tags == {"v1": record["commit"]}
    assert [commit.title for _, commit in hub.history(hub.repositories["me/degla"])] == [
        "Publish with compalign",
        "initial commit",
    ]


def test_the_published_card_loads_the_repository(top, hub):
    card = hub.repositories["me/degla"].files()["README.md"].decode()
    assert 'AutoModel.from_pretrained("me/degla", trust_remote_code=True)' in card
    assert 'from_pretrained("."' in (top / "degla" / "README.md").read_text()


def test_visibility_is_as_asked(top, hub):
    private = {name: repository.private for name, repository in hub.repositories.items()}
    assert private == {name: name != "me/adapter" for name in private}


def test_an_adapter_is_published_alone(top, hub):
    files = set(hub.repositories["me/adapter"].files())
    assert files == {".gitattributes", "adapter_config.json", "adapter_model.safetensors", "README.md", "results.json"}
