"""Tokenizers made without the Hub, from CLIP's merges file or from texts, and the padding that models need."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"

# Sorted by code point, the 256 byte symbols have the order of OpenAI's table, so list positions are CLIP's ids.
BYTE_SYMBOLS = sorted(ByteLevel.alphabet())
UNITS = BYTE_SYMBOLS + [symbol + "</w>" for symbol in BYTE_SYMBOLS]
CLIP_VOCABULARY = 49408
ROLES = ("unk_token", "bos_token", "eos_token", "pad_token")

# Models with a causal text tower that is read at the end-of-text token, and their text-only forms.
CAUSAL_TEXT_MODELS = frozenset({"clip", "degla_clip", "ce_clip", "clip_text_model"})
# Text towers that saw the padding of their captions in training, though their tokenizers make a mask that hides it.
SEES_PADDING = frozenset({"siglip_text_model", "siglip2_text_model"})


def clip_tokenizer_from_bpe(path: str | Path) -> CLIPTokenizer:
    """Build CLIP's tokenizer from OpenAI's `bpe_simple_vocab_16e6.txt.gz`, without the Hub.

    The ids are those of OpenAI's and open_clip's `SimpleTokenizer`, except that these first clean the text: they repair
    it with `ftfy` and call `html.unescape` twice. A caption with HTML entities ("salt &amp; pepper"), curly quotes,
    full-width letters or mis-decoded UTF-8 needs the same cleaning to get the same ids.

    Args:
        path (`str` or `Path`): The gzipped merges file.

    Returns:
        `CLIPTokenizer`: A tokenizer with 49408 entries and at most 77 tokens (BOS and EOS included), padded with
        `<|endoftext|>`.

    Raises:
        ValueError: If the file is not gzipped text, or has fewer merges than CLIP's vocabulary needs.
    """
    try:
        lines = gzip.decompress(Path(path).read_bytes()).decode("utf-8").splitlines()
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a gzipped merges file: {error}") from error
    needed = CLIP_VOCABULARY - len(UNITS) - 2
    # The first line is a header, and the file lists more merges than CLIP uses.
    merges: list[Any] = [tuple(line.split()) for line in lines[1 : needed + 1]]
    if len(merges) < needed or any(len(merge) != 2 for merge in merges):
        raise ValueError(f"{path} holds {len(merges)} merges of two symbols at most; CLIP's vocabulary needs {needed}")
    return _clip_tokenizer(merges, max_length=77)


def train_clip_tokenizer(corpus: Iterable[str], vocab_size: int, max_length: int) -> CLIPTokenizer:
    """Train a small CLIP tokenizer on texts. The same texts always give the same ids.

    All 512 byte units of CLIP's vocabulary are kept, also those that the texts lack. A tokenizer from
    `train_new_from_iterator` keeps only the word endings of its texts, numbers them differently in every run, and turns
    all others into `<|endoftext|>`, where CLIP stops reading. As in CLIP's own vocabulary, `<|endoftext|>` has the
    largest id, so that both ways in which CLIP finds the end of a text (the first `eos_token_id`, or the largest id)
    agree.

    Args:
        corpus (`Iterable[str]`): The training texts.
        vocab_size (`int`): Number of entries, at least 514. There are fewer if the corpus runs out of merges.
        max_length (`int`): Largest number of tokens, BOS and EOS included (`model_max_length`).

    Returns:
        `CLIPTokenizer`: The tokenizer. Copy its `bos_token_id`, `eos_token_id`, `pad_token_id` and length into
        `CLIPTextConfig`.

    Raises:
        ValueError: If `vocab_size` is below 514, the byte units and two special tokens.
    """
    if vocab_size < len(UNITS) + 2:
        raise ValueError(f"vocab_size={vocab_size} must be at least {len(UNITS) + 2}: the byte units, BOS and EOS")
    untrained = CLIPTokenizer().backend_tokenizer
    # As special tokens the units get fixed ids. If found in the corpus, their ids would follow the order of a hash map.
    trainer = BpeTrainer(
        vocab_size=vocab_size - 2, special_tokens=UNITS, end_of_word_suffix="</w>", show_progress=False
    )
    untrained.train_from_iterator(corpus, trainer)
    merges = [tuple(merge) for merge in json.loads(untrained.to_str())["model"]["merges"]]
    return _clip_tokenizer(merges, max_length)


def train_word_tokenizer(corpus: Iterable[str], special_tokens: dict[str, str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per word and per punctuation mark of some texts. All others are unknown.

    Args:
        corpus (`Iterable[str]`): The texts.
        special_tokens (`dict[str, str]`): Tokens by role, such as `{"eos_token": "</s>"}`, numbered from 0 in this
            order. "unk_token" is required. A role unknown to transformers becomes an attribute of that name.

    Returns:
        `PreTrainedTokenizerFast`: The tokenizer, which adds no special tokens by itself.

    Example:

        >>> tokenizer = train_word_tokenizer(["a red circle"], {"unk_token": "<unk>", "eos_token": "</s>"})
        >>> tokenizer("a blue circle")["input_ids"]
        [2, 0, 3]
    """
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    words = {word for text in corpus for word, _ in splitter.pre_tokenize_str(text)} - set(special_tokens.values())
    ids = {token: index for index, token in enumerate([*special_tokens.values(), *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=special_tokens["unk_token"]))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()  # puts spaces between words, but not before punctuation
    common = {role: token for role, token in special_tokens.items() if role in ROLES}
    own = {role: token for role, token in special_tokens.items() if role not in ROLES}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=own, **common)


def caption_padding(config: PretrainedConfig) -> str:
    """Return how captions must be padded for a model, as the `padding` argument of its tokenizer.

    "longest" is exact only if a model cannot see padding. In CLIP's text tower attention is causal and the embedding is
    read at the first end-of-text token, so later tokens do not matter. SigLIP attends to padding and reads the last
    position, and other models were trained at one fixed length. For them a shorter text is a different input.

    Args:
        config (`PretrainedConfig`): Configuration of a dual encoder or of a text tower.

    Returns:
        `str`: `"longest"` for CLIP, DeGLA-CLIP, CE-CLIP and CLIP's text tower, `"max_length"` for everything else.
    """
    return "longest" if config.model_type in CAUSAL_TEXT_MODELS else "max_length"


def caption_format(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the arguments with which a tokenizer makes captions as a dual encoder read them in training.

    Args:
        config (`PretrainedConfig`): Configuration of a dual encoder.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.

    Returns:
        `dict`: `padding` and `max_length`; for SigLIP, whose text tower sees the padding, no attention mask.
    """
    settings = {"padding": caption_padding(config), "max_length": text_length(config, tokenizer)}
    if config.text_config.model_type in SEES_PADDING:
        settings["return_attention_mask"] = False
    return settings


def text_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the largest number of tokens that a dual encoder reads, BOS and EOS included."""
    return min(tokenizer.model_max_length, config.text_config.max_position_embeddings)


def _clip_tokenizer(merges: list[tuple[str, str]], max_length: int) -> CLIPTokenizer:
    """Number the vocabulary as CLIP does: byte units, merges by rank, BOS, EOS."""
    # Two merges of a trained list may give the same token, which is one entry.
    vocabulary = dict.fromkeys([*UNITS, *("".join(merge) for merge in merges), START_TOKEN, END_TOKEN])
    ids = {token: index for index, token in enumerate(vocabulary)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=max_length)
