"""Nothing is sent that is incomplete, made up, a pickle, a secret or a path of this machine; all of it is named."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from tiny import METHODS, make_model, make_processor
from transformers import AutoModel, AutoProcessor

from compalign.evaluation import Results
from compalign.hub_cards import load_back, verify
from compalign.hub_cards.publishing import publish
from compalign.hub_cards.scan import SECRETS, known_formats, scan_folder
from compalign.hub_cards.staging import LEFT_OUT, MODEL_CODE, MODELING, add_code, stage
from compalign.hub_cards.verify import check_card, check_files, check_loads_back

# In pieces, so that no scanner takes this file for a leak.
OURS = {
    "Hugging Face token": "hf" + "_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "GitHub fine-grained token": "github" + "_pat_0123456789abcdefghijAB_0123456789",
    "Google API key": "AIza" + "SyA0123456789abcdefghijklmnopqrstuv",
    "API key": "sk" + "-proj-0123456789abcdefghij",
    "encrypted private key": "-----BEGIN ENCRYPTED " + "PRIVATE KEY-----",
    "Slack refresh token": "xoxe" + "-1-My0xLTAxMjM0NTY3ODkw",
    "credentials in a URL": "https://someone:" + "pa$$w0rd!@example.com/model",
    "JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "secret": '"api_' + 'key": "0123456789abcdef"',
}
# In formats that detect-secrets knows, and under its names.
PROVIDERS = {
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLE",
    "Azure Storage Account access key": "AccountKey" + "=" + "0123456789abcdefABCD" * 4 + "012345==",
    "GitHub Token": "ghp" + "_0123456789abcdefghijABCDEFGHIJ012345",
    "GitLab Token": "glpat" + "-0123456789abcdefghij",
    "NPM tokens": "//registry.npmjs.org/:_auth" + "Token=npm_0123456789abcdefghijklmnopqrstuvwxyz",
    "OpenAI Token": "sk-" + "abcdefghijklmnopqrst" + "T3Blbk" + "FJ" + "abcdefghijklmnopqrst",
    "Private Key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "PyPI Token": "pypi" + "-AgEIcHlwaS5vcmc" + "0123456789" * 7,
    "SendGrid API Key": "SG" + ".0123456789abcdefghijkl." + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
    "Slack Token": "xoxb" + "-0123456789-abcdef",
    "Stripe Access Key": "sk" + "_live_0123456789abcdefghijABCD",
    "Telegram Bot Token": "0123456789" + ":" + "0123456789abcdefghijklmnopqrstuvwxy",
    "Twilio API Key": "SK" + "0123456789abcdef" * 2,
}
PLANTED = OURS | PROVIDERS


@pytest.fixture
def folder(tmp_path, repository) -> Path:
    """The released model, as fit to publish as it is."""
    return Path(shutil.copytree(repository / "hub_cards" / "released" / "scenes_base", tmp_path / "scenes"))


@pytest.fixture
def quick(monkeypatch):
    """Loads back in this process, which takes no time to start."""

    def load_here(folder):
        return load_back.fingerprint(load_back.load_model(folder), load_back.load_processor(folder))

    monkeypatch.setattr(verify, "_load_elsewhere", load_here)


def try_publish(folder, **options):
    """A dry run that prints nothing; a Hub that is asked all the same fails."""
    api = HfApi("http://127.0.0.1:9", "none")
    return publish(folder, "me/scenes", dry_run=True, api=api, report=lambda line: None, **options)


def test_a_dry_run_of_a_good_folder_lists_it_and_asks_no_hub(folder, quick):
    publication = try_publish(folder)
    assert set(publication.files) == {path.name for path in folder.iterdir()}
    assert publication.commit is None
    assert publication.verified.startswith("loads without compalign: 126 tensors equal in every bit")


def test_all_that_is_wrong_is_named_at_once(folder):
    (folder / "weights.bin").write_bytes(b"")
    (folder / "more.safetensors").write_bytes(b"damaged")
    (folder / "notes.txt").write_text(f"one\ntwo {PLANTED['AWS Access Key']} three\n")
    (folder / "README.md").write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"not published; \d+ problems") as raised:
        try_publish(folder)
    assert "weights.bin: unexpected file type; could contain a pickle" in str(raised.value)
    assert "more.safetensors: cannot be read" in str(raised.value)
    assert "notes.txt, line 2: AWS Access Key (AKIA...)" in str(raised.value)
    assert "README.md: names no license" in str(raised.value)
    assert PLANTED["AWS Access Key"] not in str(raised.value)


# What is gathered


def test_what_training_leaves_behind_stays_behind(folder, tmp_path):
    (folder / "checkpoint-3").mkdir()
    (folder / "code").mkdir()
    for name in (
        "checkpoint-3/optimizer.pt",
        "training_args.bin",
        "run.json",
        ".env",
        "code/a.py",
        "code/rng_state.pth",
    ):
        (folder / name).write_bytes(b"x")
    left = stage(folder, tmp_path / "staged")
    assert left == [".env", "checkpoint-3", "code/rng_state.pth", "run.json", "training_args.bin"]
    assert (tmp_path / "staged" / "code" / "a.py").exists()
    assert not any(path.name in ("results.json", "README.md") for path in map(Path, LEFT_OUT))


def test_further_names_are_left_out_on_request_and_the_source_is_not_touched(folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stage(folder, tmp_path / "staged", leave_out=["training_log*"]) == ["training_log.json"]
    (tmp_path / "staged" / "config.json").write_text("{}")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_refused(folder, tmp_path):
    (folder / "LICENSE").symlink_to(folder / "config.json")
    stage(folder, tmp_path / "staged")
    assert not (tmp_path / "staged" / "LICENSE").is_symlink()
    (folder / "more").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="more is a link to a folder, or to nothing"):
        stage(folder, tmp_path / "again")


def test_a_model_in_memory_comes_with_the_files_beside_it(folder, quick):
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.logit_scale += 1.0
    assert "equal in every bit" in try_publish(model, beside=folder).verified
    with pytest.raises(ValueError, match="beside is the folder of the processor"):
        try_publish(model)
    with pytest.raises(ValueError, match="beside is the folder of the processor"):
        try_publish(folder, beside=folder)


def save_degla(folder: Path) -> None:
    """A DeGLA as a released folder has it: no code beside the weights."""
    make_model(METHODS["degla"][0]).save_pretrained(folder)
    make_processor().save_pretrained(folder)
    for path in folder.glob("*.py"):
        path.unlink()


def test_code_that_auto_map_names_is_added_with_its_siblings(tmp_path):
    save_degla(tmp_path / "model")
    assert stage(tmp_path / "model", tmp_path / "staged") == []
    code = {path.name: path.read_bytes() for path in (tmp_path / "staged").glob("*.py")}
    ours = MODELING / "clip"
    assert set(code) == {
        "configuration_degla_clip.py",
        "configuration_grouped_clip.py",
        "grouped_text.py",
        "modeling_degla_clip.py",
        "modeling_grouped_clip.py",
    }
    assert code == {name: (ours / name).read_bytes() for name in code}
    assert not list((tmp_path / "model").glob("*.py"))
    assert "equal in every bit" in check_loads_back(tmp_path / "model", tmp_path / "staged")


def test_code_that_was_saved_with_the_weights_is_kept(tmp_path):
    save_degla(tmp_path)
    (tmp_path / "grouped_text.py").write_text("# theirs\n")
    assert "grouped_text.py" not in add_code(tmp_path)
    assert (tmp_path / "grouped_text.py").read_text() == "# theirs\n"
    assert add_code(tmp_path) == []


def test_the_code_of_a_processor_is_added(repository, tmp_path):
    stage(repository / "hub_cards" / "released" / "scenes_comalign", tmp_path / "staged")
    assert {path.name for path in (tmp_path / "staged").glob("*.py")} == {
        "configuration_comalign.py",
        "modeling_comalign.py",
        "processing_comalign.py",
        "similarity.py",
    }


@pytest.mark.parametrize("module", ["modeling_theirs", "../setup", "layouts", "grouped_text"])
def test_code_that_is_not_a_model_of_ours_is_refused(tmp_path, module):
    auto_map = {"AutoModel": f"{module}.TheirModel"}
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": auto_map}))
    with pytest.raises(ValueError, match=rf"config.json: auto_map names {re.escape(module)}.py, which is not in the"):
        add_code(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_code_of_another_repository_and_missing_tokenizers_are_no_files(tmp_path):
    auto_map = {"AutoModel": "them/model--modeling.Model", "AutoTokenizer": [None, "them/model--tokens.Fast"]}
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": auto_map}))
    assert add_code(tmp_path) == []


def test_no_two_files_of_models_share_a_name():
    names = [path.name for pattern in MODEL_CODE for path in MODELING.glob(f"*/{pattern}")]
    assert len(names) == len(set(names)) >= 10


@pytest.mark.parametrize("name", ["weights.bin", "model.pt", "a.pkl", "b.ckpt", "c.npy", "d.h5", "e"])
def test_what_may_be_a_pickle_is_refused(folder, name):
    (folder / name).write_bytes(b"x")
    assert [finding.file for finding in check_files(folder)] == [name]


def test_weights_must_be_there_and_whole(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert [finding.file for finding in check_files(folder)] == ["model.safetensors"]
    weights.unlink()
    assert [str(finding) for finding in check_files(folder)] == ["*.safetensors: there are no weights"]


# Secrets and paths


def test_the_patterns_are_all_tried():
    assert OURS.keys() == SECRETS.keys()
    assert set(PROVIDERS) <= set(known_formats().values())


def test_what_detect_secrets_lacks_is_still_lacking():
    """Once it knows a format, ours can go."""
    for kind, text in OURS.items():
        assert [name for pattern, name in known_formats().items() if pattern.search(text)] == [], kind


def test_neither_hashes_nor_vocabularies_nor_prose_raise_an_alarm(repository, tmp_path):
    """Entropy and keywords would; 18,000 lines of released models, tokenizers, results and cards hold no secret."""
    for folder in (repository / "hub_cards" / "released").iterdir():
        assert [str(finding) for finding in scan_folder(folder)] == []
    (tmp_path / "notes.md").write_text(
        "password: ask the owner; secret: none; pillow 12.3.0.1, commit 30a604d" + "0" * 33
    )
    assert scan_folder(tmp_path) == []


@pytest.mark.parametrize("kind", PLANTED)
def test_a_secret_is_found_and_not_repeated(tmp_path, kind):
    (tmp_path / "a.json").write_text(f"{{\n\n  {PLANTED[kind]}\n}}")
    (found,) = [finding for finding in scan_folder(tmp_path) if finding.what.startswith(f"{kind} (")]
    assert (found.file, found.line) == ("a.json", 3)
    assert PLANTED[kind] not in str(found)


def test_the_secrets_of_this_process_are_found_whatever_they_look_like(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "plain words only")
    monkeypatch.setenv("SOME_KEY", "yes")
    (tmp_path / "a.txt").write_text("plain words only, yes")
    assert [finding.what for finding in scan_folder(tmp_path)] == ["value of SOME_SERVICE_TOKEN (plai...)"]


def test_the_header_of_safetensors_is_read(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"from": PLANTED["GitHub Token"]})
    assert [finding.file for finding in scan_folder(tmp_path)] == ["a.safetensors"]


@pytest.mark.parametrize(
    "path", ["/home/someone/runs", "/Users/someone/x", "/root/runs", r"C:\\Users\\someone", "file:///home/someone/x"]
)
def test_a_path_of_a_machine_is_found(tmp_path, path):
    (tmp_path / "config.json").write_text(f'{{"model": "{path}"}}')
    assert [finding.line for finding in scan_folder(tmp_path)] == [1]


def test_the_folder_that_is_published_must_not_be_named(tmp_path):
    (tmp_path / "config.json").write_text('{"start": "/data/models/base"}')
    assert scan_folder(tmp_path) == []
    assert len(scan_folder(tmp_path, ("/data/models",))) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"pad_token": "<|endoftext|>"',
        '"hub_token": "<HUB_TOKEN>"',
        "https://example.com/home/someone",
        "https://huggingface.co/me/model",
        "data/home/x",
        "risk-averse-and-otherwise-unremarkable-words",
        "access_token = self.make_a_token_of_this()",
    ],
)
def test_what_only_looks_like_one_is_let_through(tmp_path, text):
    (tmp_path / "a.md").write_text(text)
    assert scan_folder(tmp_path) == []


# The card


def card_of(folder: Path, change) -> list[str]:
    """What is found once the card's text is changed, with the repository's name in it."""
    card = folder / "README.md"
    card.write_text(change(card.read_text().replace('from_pretrained("."', 'from_pretrained("me/scenes"')))
    return [str(finding) for finding in check_card(folder, "me/scenes")]


def test_the_released_card_is_in_order(folder):
    assert card_of(folder, lambda text: text) == []


def test_a_card_and_results_must_be_there(folder):
    (folder / "README.md").unlink()
    (folder / "results.json").unlink()
    assert [finding.file for finding in check_card(folder, "me/scenes")] == ["README.md", "results.json"]


@pytest.mark.parametrize("text", ["[More Information Needed]", "TODO: numbers", "your-name/model", "{{ results }}"])
def test_a_placeholder_is_found(folder, text):
    (found,) = card_of(folder, lambda card: card + text)
    assert "placeholder" in found
    assert "line " in found


def test_a_number_of_the_header_written_by_hand_is_found(folder):
    value = Results.from_json(folder / "results.json").metrics["scenes_zero_shot/top1"]
    (found,) = card_of(folder, lambda card: card.replace(f"value: {value}", "value: 0.999"))
    assert "the header's evaluation is not that of results.json: scenes_zero_shot" in found


def test_a_number_of_the_tables_written_by_hand_is_found(folder):
    score = Results.from_json(folder / "results.json").benchmarks["scenes_zero_shot"].scores["top1"]
    (found,) = card_of(folder, lambda card: card.replace(f"{100 * score.value:.1f} (", "99.9 ("))
    assert found.startswith("README.md: no table shows scenes_zero_shot top1")


def test_results_of_another_model_are_found(folder):
    results = Results.from_json(folder / "results.json")
    other = {
        name: replace(b, scores={n: replace(s, value=0.123) for n, s in b.scores.items()})
        for name, b in results.benchmarks.items()
    }
    replace(results, benchmarks=other).to_json(folder / "results.json")
    assert len(card_of(folder, lambda card: card)) > 1


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("---\nlicense: [\n---\n", "cannot be read"),
        ("---\nlicense: mit\nmodel-index: 3\n---\n", "cannot be read"),
        ("---\ntags: [a]\n---\n", "names no license"),
    ],
)
def test_a_header_that_the_hub_would_refuse_is_found(folder, header, words):
    assert any(words in found for found in card_of(folder, lambda card: header + card.split("---\n", 2)[2]))


# Loading back


def test_weights_that_differ_in_one_bit_are_found(folder, tmp_path, quick):
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    weights["logit_scale"].view(torch.int32).bitwise_xor_(1)
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors differ between the model and .*, such as logit_scale"):
        check_loads_back(folder, other)


def test_a_processor_of_other_answers_is_found(folder, tmp_path, monkeypatch):
    found = load_back.fingerprint(AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder))
    found.answers["logits_per_image"][0, 0] += 1e-3
    monkeypatch.setattr(verify, "_load_elsewhere", lambda folder: found)
    with pytest.raises(ValueError, match="answers on a fixed input differ"):
        check_loads_back(folder, folder)


def test_a_weight_that_is_missing_is_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"weights do not fit the model: .*missing_keys.*text_projection.weight"):
        load_back.load_model(folder)


def test_code_that_needs_this_package_is_found(tmp_path):
    make_model(METHODS["degla"][0]).save_pretrained(tmp_path)
    make_processor().save_pretrained(tmp_path)
    code = tmp_path / "modeling_degla_clip.py"
    code.write_text(code.read_text() + "\nimport compalign.modeling\n")
    with pytest.raises(ValueError, match=r"does not load where compalign is not installed: .*compalign"):
        check_loads_back(tmp_path, tmp_path)


def test_the_auto_class_is_that_of_the_folder_or_of_the_kind_of_model(tmp_path):
    make_model(METHODS["degla"][0]).save_pretrained(tmp_path)
    assert "AutoModel" in json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert type(load_back.load_model(tmp_path)).__name__ == "DeGLACLIPModel"


def test_heads_are_compared_without_their_frozen_encoder(repository, tmp_path):
    """ComAlign's encoder is published elsewhere: what is compared are the heads, which need no folder of it."""
    source, folder = repository / "hub_cards" / "released" / "scenes_comalign", tmp_path / "alone"
    stage(source, folder)
    assert "equal in every bit" in check_loads_back(source, folder)
    findings = [str(finding) for finding in check_files(folder)]
    assert len(findings) == 1
    assert "backbone '../scenes_base' is a folder; name the frozen encoder by its Hub id" in findings[0]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "backbone": "someone/scenes_base"}))
    assert check_files(folder) == []
