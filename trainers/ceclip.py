"""CE-CLIP: hard negatives, intra-modal contrast, and a cross-modal rank whose margins grow with the model."""

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from safetensors.torch import load_file, save_file

from ..modeling import CECLIPModel
from .adapters import is_adapted
from .dual_encoder import DualEncoderArguments, DualEncoderTrainer
from .losses import clip_contrastive, cross_modal_rank, intra_modal_contrast

THRESHOLD_FILE = "rank_threshold.safetensors"


@dataclass
class CECLIPArguments(DualEncoderArguments):
    """CE-CLIP's recipe; the fields below differ from `DualEncoderArguments` or are new."""

    learning_rate: float = field(
        default=5e-6, metadata={"help": "Peak learning rate of AdamW, as in the authors' last script."}
    )
    rank_weight: float = field(default=0.2, metadata={"help": "Weight of the cross-modal rank; 0 switches it off."})
    intra_modal_weight: float = field(
        default=0.2, metadata={"help": "Weight of the intra-modal contrast; 0 switches it off."}
    )
    rank_rule: Literal["mean", "max", "fixed"] = field(
        default="mean",
        metadata={
            "help": "How the thresholds follow the gaps of the last batch, from 0; fixed: they stay at rank_threshold."
        },
    )
    rank_threshold: float = field(
        default=2.0, metadata={"help": "Threshold of the fixed rule, in logits (100 x cosine); other rules start at 0."}
    )
    rank_upper_bound: float = field(
        default=10.0, metadata={"help": "Largest threshold of the mean and max rules, in logits (100 x cosine)."}
    )
    intra_modal_negatives: Literal["batch", "own", "head"] = field(
        default="batch", metadata={"help": "Negatives that a caption meets in the intra-modal contrast."}
    )
    as_released: bool = field(
        default=False,
        metadata={
            "help": "Do as the authors' code: invalid negatives take part in the contrast, thresholds follow its "
            "arithmetic and start over in every epoch."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.rank_threshold >= 0:
            raise ValueError(f"rank_threshold must be 0 or more, got {self.rank_threshold}")


class CECLIPTrainer(DualEncoderTrainer):
    """Trains a `CECLIPModel`, whose `rank_threshold` buffer is the state of the curriculum.

    With `rank_rule="fixed"` the trainer fills the buffer with the argument `rank_threshold`. A resumed run continues
    with the thresholds of its checkpoint, under every rule.

    Adapters are saved without buffers, so their checkpoints hold the thresholds in a separate file. No output depends
    on the thresholds, so a finished adapter does not need them.

    Reference:
        Contrasting intra-modal and ranking cross-modal hard negatives, https://huggingface.co/papers/2306.08832.
    """

    def __init__(self, model: CECLIPModel, args: CECLIPArguments, **kwargs: Any):
        thresholds = len(model.rank_threshold)
        if thresholds != args.num_negatives:
            raise ValueError(
                f"the model keeps {thresholds} rank thresholds but num_negatives is {args.num_negatives}: set "
                f"num_negatives to {thresholds}, or load the model with num_negatives={args.num_negatives}"
            )
        super().__init__(model, args, **kwargs)
        self._threshold_epoch: int | None = None  # of the last batch
        if args.rank_rule == "fixed":
            model.rank_threshold.fill_(args.rank_threshold)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Contrast + rank_weight * cross-modal rank + intra_modal_weight * intra-modal contrast."""
        args = self.args
        outputs, batch = self.embed(model, inputs)
        embeddings = (batch.image, batch.caption, batch.negative, batch.logit_scale)
        mask = batch.negative_mask

        def contrast():
            return clip_contrastive(
                batch.image, batch.caption, batch.logit_scale, batch.negative, None if args.as_released else mask
            )

        def rank():
            threshold = self.thresholds()
            loss, next_threshold = cross_modal_rank(*embeddings, threshold, mask, args.rank_rule, args.as_released)
            if self.model.training:
                bounded = next_threshold.clamp(0, args.rank_upper_bound)
                threshold.copy_(next_threshold if args.rank_rule == "fixed" else bounded)
            return loss

        def intra_modal():
            return intra_modal_contrast(*embeddings, mask, args.intra_modal_negatives)

        terms = {
            "contrast": (1.0, contrast),
            "rank": (args.rank_weight, rank),
            "intra_modal": (args.intra_modal_weight, intra_modal),
        }
        loss = self.sum_terms(terms, inputs["row"])
        return (loss, outputs) if return_outputs else loss

    def thresholds(self):
        """Return the model's buffer; the authors' code starts it over in every epoch."""
        threshold = self.accelerator.unwrap_model(self.model).rank_threshold
        epoch = int(self.state.epoch or 0)
        if self._threshold_epoch is None:  # a resumed run: the epoch in which its checkpoint was written
            self._threshold_epoch = max(math.ceil(self.state.epoch or 0) - 1, 0)
        if self.args.as_released and epoch != self._threshold_epoch:
            threshold.fill_(self.args.rank_threshold if self.args.rank_rule == "fixed" else 0.0)
        self._threshold_epoch = epoch
        return threshold

    def save_extra_state(self, folder: str) -> None:
        if is_adapted(self.model):
            threshold = self.model.rank_threshold
            save_file({"rank_threshold": threshold}, os.path.join(folder, THRESHOLD_FILE))

    def load_extra_state(self, folder: str) -> None:
        if is_adapted(self.model):
            self.model.rank_threshold.copy_(load_file(os.path.join(folder, THRESHOLD_FILE))["rank_threshold"])
