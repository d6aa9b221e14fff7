"""The likelihood of a causal language model: batched as one by one, and equal to a sum of log-probabilities."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from compalign.data.tokenization import train_clip_tokenizer
from compalign.evaluation.blind.causal import CausalLikelihood

TEXTS = [
    "a red cat",
    "a large red cat above a small blue heart",
    "two dogs",
    "a cat on a sofa, in the sun",
    "a red cat",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_clip_tokenizer(TEXTS, vocab_size=600, max_length=40)


@pytest.fixture(params=["gpt2", "llama"])
def model(request, tokenizer):
    """Two tiny models, with positions learned and rotated, in training mode with dropout."""
    torch.manual_seed(0)
    size = len(tokenizer)
    if request.param == "gpt2":
        config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=40)
        return GPT2LMHeadModel(config).train()
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=40, **widths)).train()


def by_hand(model, tokenizer, text):
    """Add up the log-probabilities of one text, token by token."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        probabilities = model.eval().double()(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
    model.float()
    return sum(float(probabilities[k, ids[k + 1]]) for k in range(len(ids) - 1)), len(ids) - 1


def test_batched_scores_equal_the_sum_of_log_probabilities_of_each_text(model, tokenizer):
    expected = [by_hand(model, tokenizer, text) for text in TEXTS]
    sums = CausalLikelihood(model, tokenizer, batch_size=3)(TEXTS)
    means = CausalLikelihood(model, tokenizer, "mean", batch_size=2)(TEXTS)
    np.testing.assert_allclose(sums, [total for total, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(means, [total / count for total, count in expected], rtol=1e-5)
    assert (sums < 0).all()


def test_neither_the_batch_size_nor_the_order_changes_a_score(model, tokenizer):
    scores = CausalLikelihood(model, tokenizer, batch_size=1)(TEXTS)
    np.testing.assert_allclose(CausalLikelihood(model, tokenizer, batch_size=64)(TEXTS), scores, rtol=1e-5)
    np.testing.assert_allclose(CausalLikelihood(model, tokenizer)(TEXTS[::-1]), scores[::-1], rtol=1e-5)


def test_a_model_that_knows_nothing_gives_every_token_the_same_share(model, tokenizer):
    """Zero logits: each token has probability 1 / vocabulary."""
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    means = CausalLikelihood(model, tokenizer, "mean")(TEXTS)
    np.testing.assert_allclose(means, -np.log(model.config.vocab_size), rtol=1e-6)


def test_texts_are_run_in_the_order_of_length(model, tokenizer, monkeypatch):
    widths = []
    forward = model.forward

    def watched(input_ids, **inputs):
        widths.append(input_ids.shape)
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(model, "forward", watched)
    CausalLikelihood(model, tokenizer, batch_size=2)(TEXTS)
    lengths = sorted(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    assert widths == [(2, lengths[1]), (2, lengths[3]), (1, lengths[4])]


def test_what_cannot_be_scored_is_refused(model, tokenizer):
    score = CausalLikelihood(model, tokenizer)
    with pytest.raises(ValueError, match=r"'' has 0 tokens; must be 1\.\.39"):
        score(["a cat", ""])
    with pytest.raises(ValueError, match=r"has \d+ tokens; must be 1\.\.39"):
        score(["cat " * 40])
    with pytest.raises(ValueError, match="reduction 'max'; must be one of sum, mean"):
        CausalLikelihood(model, tokenizer, "max")
