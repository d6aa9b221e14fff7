"""NegCLIP: contrast with hard negative captions, and with the images and captions of near neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .dual_encoder import DualEncoderArguments, DualEncoderCollator, DualEncoderTrainer
from .rows import RowsWithNeighbors
from .streaming import StreamedRows
from .trainer import sample_seed


@dataclass
class NegCLIPArguments(DualEncoderArguments):
    """NegCLIP's recipe; the fields below differ from `DualEncoderArguments`."""

    weight_decay: float = field(
        default=0.2,
        metadata={"help": "Weight decay, on matrices only; 0.2 is open_clip's default, which the authors use."},
    )
    num_negatives: int = field(default=1, metadata={"help": "Hard negatives per caption, K >= 0."})
    negative_choice: Literal["first", "random"] = field(
        default="random",
        metadata={"help": "Which K of more negatives to take: the first ones, or random ones in each epoch."},
    )


class NegCLIPTrainer(DualEncoderTrainer):
    """Trains any dual encoder such as CLIP or SigLIP on captions with hard negatives; rows may name `neighbors`.

    With B rows that name neighbours, 2B images meet 4B texts: the rows' and the neighbours' images, captions and hard
    captions. Rows without neighbours make the plain batch of B images and 2B texts.

    Reference:
        When and why vision-language models behave like bags-of-words, https://huggingface.co/papers/2210.01936.
    """

    def index_rows(self, rows: Any, args: NegCLIPArguments) -> RowsWithNeighbors:
        return RowsWithNeighbors(rows, args.on_bad_row, sample_seed(args))

    def stream_rows(self, rows: Any, args: NegCLIPArguments) -> StreamedRows:
        streamed = super().stream_rows(rows, args)
        if any("neighbors" in row for row in streamed.first(1)):
            raise ValueError(
                "a stream reads no row out of turn, so none can be joined by its neighbors: drop that column"
            )
        return streamed

    @staticmethod
    def make_collator(processor, model, args: NegCLIPArguments) -> DualEncoderCollator:
        return NeighborCollator(**vars(DualEncoderTrainer.make_collator(processor, model, args)))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Images against all captions and hard captions, captions against images."""
        outputs, batch = self.embed(model, inputs)
        loss = self.sum_terms({"contrast": (1.0, batch.contrast)}, inputs["row"])
        return (loss, outputs) if return_outputs else loss


class NeighborCollator(DualEncoderCollator):
    """Lays out rows and neighbours: first all rows, then their neighbours in the same order. A stream's come alone."""

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        groups = [row if isinstance(row, list) else [row] for row in rows]
        return super().__call__([row for group in zip(*groups, strict=True) for row in group])
