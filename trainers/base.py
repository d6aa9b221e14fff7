"""What all alignment trainers share: embeddings of the global batch, named terms, the Trainer's traps fixed once."""

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import rotate_checkpoints

from ..data.tokenization import caption_padding
from . import checkpoint
from .callbacks import StepHooks, TermProgress
from .checks import check_batches, check_launch
from .collators import AlignmentCollator, split_captions
from .distributed import gather_rows
from .rows import IndexedRows

LARGEST_LOGIT_SCALE = 100.0  # CLIP's bound; beyond it cosines are amplified into noise


@dataclass
class AlignmentArguments(TrainingArguments):
    """Arguments of every alignment trainer.

    These defaults differ from `TrainingArguments`: the optimizer and schedule are those on which the papers agree
    (AdamW with betas 0.9 and 0.98, epsilon 1e-6, weight decay 0.1 on matrices only, 50 warm-up steps, cosine to 0, no
    gradient clipping, 5 epochs, a global batch of 256), `remove_unused_columns` and `logging_nan_inf_filter` are off,
    and an incomplete last batch is dropped. `per_device_train_batch_size` is 256: divide it by the number of processes.
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
    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Our columns are no arguments of forward."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Non-finite losses stop the run instead."})
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
    on_bad_row: Literal["skip", "raise"] = field(
        default="skip", metadata={"help": "What a row with an unreadable image does to the run."}
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


class AlignmentTrainer(Trainer):
    """A `Trainer` for dual encoders whose loss is a weighted sum of named terms over the global batch.

    A subclass overrides `compute_loss` with its terms. Logs, the progress bar and `trainer_state.json` carry the mean
    of each unweighted term since the last log; `evaluate` reports them with its prefix. Note that a contrastive loss
    depends on the batch size: never compare eval losses across batch sizes.

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
        check_launch(args)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._indexed(train_dataset, args),
            eval_dataset=self._indexed(eval_dataset, args),
            processing_class=processing_class,
            data_collator=data_collator or self.make_collator(processing_class, model, args),
            **kwargs,
        )
        # Otherwise the Trainer takes a batch mean for a loss that is already divided by the accumulation steps.
        self.model_accepts_loss_kwargs = False
        # Otherwise `evaluate` never calls compute_loss: our batches carry no labels.
        self.can_return_loss = True
        if args.gradient_accumulation_steps > 1:
            self.accelerator.print(
                f"Note: {args.gradient_accumulation_steps} accumulation steps contrast {args.train_batch_size} rows at "
                "a time; that is another objective than one batch of the accumulated size."
            )
        self._terms: dict[str, list[Tensor]] = defaultdict(list)
        self._step: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._staging: str | None = None
        self.add_callback(StepHooks(self))
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(TermProgress())

    @staticmethod
    def index_rows(rows: Any, args: AlignmentArguments) -> IndexedRows:
        """The rows with their place and epoch."""
        return IndexedRows(rows, args.on_bad_row)

    @classmethod
    def _indexed(cls, rows: Any, args: AlignmentArguments) -> Any:
        """Index rows, a dictionary of several, or none; a name stands for rows that are indexed already."""
        if isinstance(rows, dict):
            return {name: cls._indexed(part, args) for name, part in rows.items()}
        if rows is None or isinstance(rows, (str, IndexedRows)):
            return rows
        return cls.index_rows(rows, args)

    def get_eval_dataloader(self, eval_dataset: Any = None):
        return super().get_eval_dataloader(self._indexed(eval_dataset, self.args))

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

    # Embeddings and terms

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

    def weighted_sum(self, terms: dict[str, tuple[float, Callable[[], Tensor]]], rows: Tensor) -> Tensor:
        """Sum of weight times value over the terms. A term of weight 0 is never computed."""
        values = {name: term() for name, (weight, term) in terms.items() if weight != 0}
        detached = {name: value.detach() for name, value in values.items()}
        for name, value in detached.items():
            self._terms[name].append(value)
        if self.model.training:
            self._step.append((rows, detached))
        return sum(terms[name][0] * value for name, value in values.items())

    def _pop_term_means(self, prefix: str = "") -> dict[str, float]:
        """Means of the terms since the last call."""
        means = {f"{prefix}{name}": torch.stack(values).mean().item() for name, values in self._terms.items()}
        self._terms.clear()
        return means

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **self._pop_term_means()}
        super().log(logs, start_time)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any):
        with self._separate_terms():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            output.metrics.update(self._pop_term_means(f"{metric_key_prefix}_"))
        return output

    @contextmanager
    def _separate_terms(self):
        """Keep the terms of an evaluation apart from those of the training around it."""
        training, self._terms = self._terms, defaultdict(list)
        try:
            yield
        finally:
            self._terms = training

    # Steps

    def train(self, *args: Any, **kwargs: Any):
        check_batches(len(self.train_dataset), self.args)
        return super().train(*args, **kwargs)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices only: no gain, bias, class embedding or temperature decays."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    def check_finite(self) -> None:
        """Stop before an optimizer step that would destroy the weights."""
        total = sum(value.sum() for _, values in self._step for value in values.values())
        if not torch.isfinite(torch.as_tensor(total)):
            bad = {name for _, values in self._step for name, value in values.items() if not value.isfinite().all()}
            rows = torch.cat([rows for rows, _ in self._step]).tolist()
            raise FloatingPointError(
                f"loss is not finite at step {self.state.global_step + 1}: {', '.join(sorted(bad))}. Nothing was "
                f"updated or saved. Rows of this process's batch: {rows}"
            )
        self._step.clear()

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the logit scale within CLIP's bounds, 1 and 100."""
        self.accelerator.unwrap_model(self.model).logit_scale.clamp_(
            0.0, torch.tensor(LARGEST_LOGIT_SCALE).log().item()
        )

    # Checkpoints

    def save_extra_state(self, folder: str) -> None:
        """Write what a method needs besides the model into the checkpoint."""

    def load_extra_state(self, folder: str) -> None:
        """Read it back on resume."""

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save into a hidden folder and rename it: an interrupted save is never mistaken for a checkpoint."""
        run_folder = super()._get_output_dir(trial)
        staging = os.path.join(run_folder, checkpoint.STAGING)
        staged, final = (
            os.path.join(folder, f"checkpoint-{self.state.global_step}") for folder in (staging, run_folder)
        )
        if self.args.should_save:
            checkpoint.clear_staging(staging)
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        if self.args.should_save:
            self.save_extra_state(staged)
            if self.state.best_model_checkpoint == staged:
                self.state.best_model_checkpoint = final
                self.state.save_to_json(os.path.join(staged, TRAINER_STATE_NAME))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint.publish(staged, final)
            rotate_checkpoints(run_folder, self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(final)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:  # a staged folder is about to move
            super()._push_from_checkpoint(checkpoint_folder)

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint_folder)
        if checkpoint_folder is not None:
            self.load_extra_state(checkpoint_folder)
