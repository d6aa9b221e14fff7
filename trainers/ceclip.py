"""CE-CLIP: hard negatives, intra-modal contrast, and a cross-modal rank whose margins grow with the model."""

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..modeling import CECLIPModel
from .adapters import is_adapted, plain_model
from .dual_encoder import DualEncoderArguments, DualEncoderTrainer
from .losses import cross_modal_rank, intra_modal_contrast
from .streaming import StreamedRows

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
    """Trains a `CECLIPModel`, whose `rank_threshold` buffer is the state of the curriculum, or another dual encoder.

    Any other model, such as SigLIP, gets such a buffer for the time of its training. On SigLIP the contrast takes
    SigLIP's form. Rank and intra-modal contrast stay as they are, with SigLIP's own scale: they compare the logits of
    one image or caption with each other, and a bias that is added to all of them makes no difference.

    With `rank_rule="fixed"` the trainer fills the buffer with the argument `rank_threshold`. A resumed run continues
    with the thresholds of its checkpoint, under every rule.

    Only a `CECLIPModel` is saved with its buffer, and adapters are not, so checkpoints of all others hold the
    thresholds in a separate file. No output depends on the thresholds, so a finished model does not need them.

    Reference:
        Contrasting intra-modal and ranking cross-modal hard negatives, https://huggingface.co/papers/2306.08832.
    """

    def __init__(self, model: PreTrainedModel, args: CECLIPArguments, **kwargs: Any):
        plain = plain_model(model)
        if not isinstance(plain, CECLIPModel):
            plain.register_buffer("rank_threshold", torch.zeros(args.num_negatives), persistent=False)
        self._thresholds_apart = is_adapted(model) or not isinstance(plain, CECLIPModel)
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

    def stream_rows(self, rows: Any, args: CECLIPArguments) -> StreamedRows:
        if args.as_released:
            raise ValueError("as_released starts the thresholds over in every epoch, and a stream has no epochs")
        return super().stream_rows(rows, args)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Contrast + rank_weight * cross-modal rank + intra_modal_weight * intra-modal contrast."""
        args = self.args
        outputs, batch = self.embed(model, inputs)
        embeddings = (batch.image, batch.caption, batch.negative, batch.logit_scale)
        mask = batch.negative_mask

        def contrast():
            return batch.contrast(masked=not args.as_released)

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

    def thresholds(self) -> Tensor:
        """Return the model's buffer; the authors' code starts it over in every epoch."""
        threshold = self.accelerator.unwrap_model(self.model).rank_threshold
        threshold.data = threshold.data.float()  # DeepSpeed makes buffers half precision too
        epoch = int(self.state.epoch or 0)
        if self._threshold_epoch is None:  # a resumed run: the epoch in which its checkpoint was written
            self._threshold_epoch = max(math.ceil(self.state.epoch or 0) - 1, 0)
        if self.args.as_released and epoch != self._threshold_epoch:
            threshold.fill_(self.args.rank_threshold if self.args.rank_rule == "fixed" else 0.0)
        self._threshold_epoch = epoch
        return threshold

    def save_extra_state(self, folder: str) -> None:
        if self._thresholds_apart and self.args.should_save:
            save_file({"rank_threshold": self.model.rank_threshold}, os.path.join(folder, THRESHOLD_FILE))

    def load_extra_state(self, folder: str) -> None:
        if self._thresholds_apart:
            self.model.rank_threshold.copy_(load_file(os.path.join(folder, THRESHOLD_FILE))["rank_threshold"])
