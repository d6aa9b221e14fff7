"""A causal language model as a blind baseline: the likelihood of a caption, regardless of the image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

REDUCTIONS = ("sum", "mean")
_NOT_SCORED = -100


class CausalLikelihood:
    """Scores captions by the log-likelihood of their tokens under a causal language model.

    Every token of the text counts; the end of the text does not. The first token is predicted from the
    beginning-of-sequence token, or the end-of-sequence token if the tokenizer has no other. Up to rounding, a score
    does not depend on the other texts or on the batch size.

    Example:

    ```python
    score = CausalLikelihood(AutoModelForCausalLM.from_pretrained("gpt2"), AutoTokenizer.from_pretrained("gpt2"))
    score(["a dog chases a cat", "a cat chases a dog"])
    ```

    Args:
        model (`PreTrainedModel`): Any causal language model. It is switched to evaluation mode; its device and data
            type stay as they are.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        reduction (`str`): "sum" over the tokens favours short texts; "mean" over the tokens does not.
        batch_size (`int`): Texts per forward pass.

    Raises:
        ValueError: If the reduction is unknown, or the tokenizer has no token to begin a text with.

    Reference:
        SugarCrepe, https://huggingface.co/papers/2306.14610, section 3, which evaluates such baselines.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        reduction: str = "sum",
        batch_size: int = 64,
    ):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction {reduction!r}; must be one of {', '.join(REDUCTIONS)}")
        self.start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if self.start is None:
            raise ValueError(f"{type(tokenizer).__name__} has neither a beginning- nor an end-of-sequence token")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.reduction = reduction
        self.batch_size = batch_size

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Score texts.

        Args:
            texts (sequence of `str`): Captions, with at least one token each.

        Returns:
            `numpy.ndarray` of shape `(texts,)`: natural logarithm of the probability of each text, or its mean per
            token; <= 0.

        Raises:
            ValueError: If a text has no token, or is longer than the model reads.
        """
        tokens = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        longest = self.tokenizer.model_max_length - 1
        for text, ids in zip(texts, tokens, strict=True):
            if not 0 < len(ids) <= longest:
                raise ValueError(f"{text[:80]!r} has {len(ids)} tokens; must be 1..{longest}")
        order = sorted(range(len(tokens)), key=lambda k: len(tokens[k]))
        scores = np.empty(len(tokens))
        for first in range(0, len(order), self.batch_size):
            chosen = order[first : first + self.batch_size]
            scores[chosen] = self._log_likelihoods([tokens[k] for k in chosen])
        return scores

    @torch.inference_mode()
    def _log_likelihoods(self, tokens: list[list[int]]) -> np.ndarray:
        """Score the texts of a batch, padded on the right, where causal attention does not see the padding."""
        lengths = [len(ids) for ids in tokens]
        labels = torch.tensor([ids + [_NOT_SCORED] * (max(lengths) - len(ids)) for ids in tokens])  # (B, T)
        labels = labels.to(self.model.device)
        inputs = torch.full_like(labels, self.start)
        inputs[:, 1:] = labels[:, :-1].clamp(min=0)
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        logits = self.model(input_ids=inputs, attention_mask=mask.long().to(self.model.device), use_cache=False).logits
        losses = cross_entropy(logits.float().mT, labels, ignore_index=_NOT_SCORED, reduction="none")  # (B, T)
        sums = -losses.sum(dim=1).double().cpu().numpy()
        return sums / np.array(lengths) if self.reduction == "mean" else sums
