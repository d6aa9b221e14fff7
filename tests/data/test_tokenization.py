"""CLIP's tokenizer rebuilt from its merges, the tiny trained one, and how far to pad."""

import gzip
import html
import json
import random

import pytest
import torch
from transformers import AlignConfig, AutoTokenizer, CLIPConfig, CLIPTextConfig, CLIPTextModel, SiglipConfig

from compalign.data.tokenization import caption_padding, clip_tokenizer_from_bpe, train_clip_tokenizer

CORPUS = ["a red dog left of a blue cat", "a green star above a red cat"]


@pytest.fixture(scope="module")
def clip_bpe(shared):
    return shared / "data" / "clip_bpe"


@pytest.fixture(scope="module")
def clip_tokenizer(clip_bpe):
    return clip_tokenizer_from_bpe(clip_bpe / "bpe_simple_vocab_16e6.txt.gz")


@pytest.fixture(scope="module")
def cases(clip_bpe):
    return {case["name"]: case for case in json.loads((clip_bpe / "tokenisation.json").read_text())["cases"]}


def test_clip_tokenizer_has_clips_special_ids_and_length(clip_tokenizer):
    tokenizer = clip_tokenizer
    assert (len(tokenizer), tokenizer.model_max_length) == (49408, 77)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 49407)


def test_clip_tokenizer_gives_the_ids_of_the_official_code(clip_tokenizer, cases):
    """All cases that need no ftfy; HTML entities are unescaped twice beforehand, as the official code does."""
    texts = {name: html.unescape(html.unescape(case["text"])) for name, case in cases.items()}
    # Written with open_clip's names of the special tokens; transformers has OpenAI's.
    texts["special_token_text"] = "<|startoftext|> a dog <|endoftext|>"
    same = [name for name, case in cases.items() if case["same_without_ftfy"]]
    assert len(same) == 27
    for name in same:
        assert clip_tokenizer(texts[name], truncation=True).input_ids == cases[name]["ids"], name


def test_only_texts_that_need_repair_differ_without_cleaning(clip_tokenizer, cases):
    different = {
        name for name, case in cases.items() if clip_tokenizer(case["text"], truncation=True).input_ids != case["ids"]
    }
    assert different == {
        *("html_entity_amp", "html_entity_double_escaped", "html_entity_quote", "special_token_text"),
        *("curly_quotes", "mojibake", "full_width", "control_and_zero_width"),
    }


def test_saved_tokenizer_loads_through_auto_with_the_same_ids(clip_tokenizer, tmp_path):
    clip_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "A man riding a wave, it's 2017!"
    assert loaded(text).input_ids == clip_tokenizer(text).input_ids
    assert (loaded.model_max_length, loaded.pad_token_id) == (77, 49407)


@pytest.mark.parametrize("content", [b"not gzipped", gzip.compress(b"#version\na b\n", mtime=0)])
def test_a_file_that_is_no_merges_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "bpe.txt.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bpe\.txt\.gz"):
        clip_tokenizer_from_bpe(tmp_path / "bpe.txt.gz")


def test_trained_tokenizer_ends_every_text_once_whatever_its_letters():
    """A word ending not met in training must not become the end-of-text token, where CLIP stops reading."""
    tokenizer = train_clip_tokenizer(CORPUS, vocab_size=560, max_length=32)
    for text in ["a quick fox!", "Überraschung 42?", "日本", "red dog"]:
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")


def test_trained_tokenizer_numbers_its_vocabulary_as_clip_does():
    tokenizer = train_clip_tokenizer(CORPUS, vocab_size=530, max_length=32)
    assert sorted(tokenizer.get_vocab().values()) == list(range(530))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (528, 529, 529)
    assert tokenizer.model_max_length == 32
    assert len(tokenizer(" ".join(CORPUS * 9), truncation=True).input_ids) == 32


def test_training_merges_what_is_frequent():
    tokenizer = train_clip_tokenizer(CORPUS * 10, vocab_size=800, max_length=32)
    assert tokenizer.tokenize(CORPUS[0]) == [word + "</w>" for word in CORPUS[0].split()]


def test_training_gives_the_same_ids_every_time():
    """Ties between equally frequent merges are decided by ids, which tokenizers would take from a hash map's order."""
    draw = random.Random(0)
    corpus = ["".join(draw.choice("abcdefgh") for _ in range(5)) for _ in range(300)]
    first, *others = (train_clip_tokenizer(corpus, 600, 32).backend_tokenizer.to_str() for _ in range(4))
    assert all(other == first for other in others)


def test_trained_tokenizer_survives_saving(tmp_path):
    tokenizer = train_clip_tokenizer(CORPUS, vocab_size=560, max_length=32)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.model_max_length == 32
    assert loaded(CORPUS, padding=True) == tokenizer(CORPUS, padding=True)


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="514"):
        train_clip_tokenizer(CORPUS, vocab_size=513, max_length=32)


def test_only_clips_causal_text_towers_may_be_padded_to_the_longest():
    assert caption_padding(CLIPConfig()) == caption_padding(CLIPTextConfig()) == "longest"
    assert caption_padding(SiglipConfig()) == caption_padding(AlignConfig()) == "max_length"


@pytest.mark.parametrize("legacy_end", [False, True])
def test_clip_text_features_do_not_depend_on_the_padding(legacy_end):
    """The reason for "longest"; `eos_token_id=2`, as in old configurations, makes CLIP look for the largest id."""
    tokenizer = train_clip_tokenizer(CORPUS, vocab_size=560, max_length=32)
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=2 if legacy_end else tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )
    tower = CLIPTextModel(config).eval()
    with torch.no_grad():
        longest, full = (
            tower(**tokenizer(CORPUS, padding=padding, return_tensors="pt")).pooler_output
            for padding in (caption_padding(config), "max_length")
        )
    torch.testing.assert_close(longest, full, rtol=0, atol=1e-6)
