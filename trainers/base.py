"""What the trainers of dual encoders share: the recipe on which the papers agree, embeddings of the global batch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from ..data.tokenization import caption_padding
from .checks import check_batches
from .collators import AlignmentCollator, split_captions
from .distributed import gather_rows
from .term_trainer import TermArguments, TermTrainer

LARGEST_LOGIT_SCALE = 100.0  # CLIP's bound; beyond it cosines are amplified into noise


@dataclass
class AlignmentArguments(TermArguments):
    """Arguments of every alignment trainer.

    These defaults differ from `TermArguments`: the optimizer and schedule are those on which the papers agree
    (AdamW with betas 0.9 and 0.98, epsilon 1e-6, weight decay 0.1 on matrices only, 50 warm-up steps, cosine to 0, no
    gradient clipping, 5 epochs, a global batch of 256), and an incomplete last batch is dropped.
    `per_device_train_batch_size` is 256: divide it by the number of processes.
    """

    per_device_train_batch_size: int = field(
        default=256, metadata={"help": "Rows a process. The papers' batch is 256."}
    )
    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate of AdamW."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Passes over the data."})
    weight_decay: float = field(default=0.1, metadata={"help": "On parameters with two or more axes only."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Second moment's decay."})
    adam_epsilon: float = field(default=1e-6, metadata={"help": "AdamW's epsilon."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(default=50, metadata={"help": "Linear warm-up: steps, or a share of all if below 1."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Gradient clipping; 0 switches it off."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop an incomplete last batch."})
    num_negatives: int = field(default=4, metadata={"help": "Hard negative captions a caption, K >= 0."})
    negative_choice: Literal["first", "random"] = field(
        default="first", metadata={"help": "Which of more than K negatives: the first, or random ones each epoch."}
    )
    crop_scale: list[float] | None = field(
        default_factory=lambda: [0.9, 1.0],
        metadata={
            "help": "Area range of the random resized crop, two shares in (0, 1]; none: the processor's resizing."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_negatives < 0:
            raise ValueError(f"num_negatives must be 0 or more, got {self.num_negatives}")
        if self.crop_scale and not (len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1):
            raise ValueError(f"crop_scale must be two shares of the area, 0 < low <= high <= 1, got {self.crop_scale}")


@dataclass
class EmbeddedBatch:
    """L2-normalised float32 embeddings of the global batch: N rows of all processes, K negatives a row, width D."""

    image: Tensor  # (N, D)
    caption: Tensor  # (N, D)
    negative: Tensor  # (N, K, D)
    negative_mask: Tensor  # (N, K)
    logit_scale: Tensor  # () or (1,), exponentiated


class AlignmentTrainer(TermTrainer):
    """A `TermTrainer` for dual encoders, whose terms contrast the global batch.

    A subclass overrides `compute_loss` with its terms. Note that a contrastive loss depends on the batch size: never
    compare eval losses across batch sizes.

    Args:
        model (`PreTrainedModel`): A CLIP-like model: `forward` returns `image_embeds` and `text_embeds`.
        args (`AlignmentArguments`): The recipe.
        train_dataset, eval_dataset: Map-style rows with `image`, `caption` and `negative_captions`, see
            `AlignmentCollator`; for evaluation also a dictionary of several.
        processing_class (`ProcessorMixin`): The model's processor.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If the processes are launched in a way in which they would not train together, or a batch could not
            be contrasted.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: AlignmentArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: ProcessorMixin | None = None,
        data_collator: Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=data_collator or self.make_collator(processing_class, model, args),
            **kwargs,
        )
        # Otherwise the Trainer takes a batch mean for a loss that is already divided by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        if args.gradient_accumulation_steps > 1:
            self.accelerator.print(
                f"Note: {args.gradient_accumulation_steps} accumulation steps contrast {args.train_batch_size} rows at "
                "a time; that is another objective than one batch of the accumulated size."
            )

    @staticmethod
    def make_collator(processor: ProcessorMixin, model: PreTrainedModel, args: AlignmentArguments) -> AlignmentCollator:
        """The default collator of this trainer."""
        return AlignmentCollator(
            processor,
            num_negatives=args.num_negatives,
            negative_choice=args.negative_choice,
            padding=caption_padding(model.config),
            crop_scale=args.crop_scale,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )

    def embed(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Any, EmbeddedBatch]:
        """One forward of images, captions and negatives; the rows of all processes, with gradient."""
        keys = ("input_ids", "attention_mask", "pixel_values")
        outputs = model(**{key: inputs[key] for key in keys})
        image = outputs.image_embeds.float()
        caption, negative = split_captions(outputs.text_embeds.float(), len(image))
        mask = inputs["negative_mask"].to(image.dtype)
        scale = outputs.get("logit_scale")
        if scale is None:  # a plain CLIP-like model does not return it
            scale = self.accelerator.unwrap_model(model).logit_scale.exp()
        return outputs, EmbeddedBatch(*gather_rows(image, caption, negative, mask), logit_scale=scale.float())

    def train(self, *args: Any, **kwargs: Any):
        check_batches(len(self.train_dataset), self.args)
        return super().train(*args, **kwargs)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices only: no gain, bias, class embedding or temperature decays."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the logit scale within CLIP's bounds, 1 and 100; one that is frozen belongs to the base."""
        scale = self.accelerator.unwrap_model(self.model).logit_scale
        if scale.requires_grad:
            scale.clamp_(0.0, torch.tensor(LARGEST_LOGIT_SCALE).log().item())
