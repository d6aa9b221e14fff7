"""A Trainer whose loss is a sum of named terms: terms in the logs, no step on a broken loss, atomic checkpoints."""

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import rotate_checkpoints

from . import checkpoint
from .adapters import is_adapted, name_magnitudes
from .callbacks import StepHooks, TermProgress
from .checks import check_launch
from .rows import IndexedRows


@dataclass
class TermArguments(TrainingArguments):
    """Arguments of every trainer.

    These defaults differ from `TrainingArguments`: logs come every 10 steps, `remove_unused_columns` and
    `logging_nan_inf_filter` are off.
    """

    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Our columns are no arguments of forward."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Non-finite losses stop the run instead."})
    on_bad_row: Literal["skip", "raise"] = field(
        default="skip", metadata={"help": "What a row that cannot be used does to the run."}
    )


class TermTrainer(Trainer):
    """What the trainers of all methods share, whatever they train.

    Logs, the progress bar and `trainer_state.json` carry the mean of each unweighted term since the last log;
    `evaluate` reports them with its prefix.

    Args:
        model (`PreTrainedModel`): The model.
        args (`TermArguments`): The recipe.
        train_dataset, eval_dataset: Map-style rows; for evaluation also a dictionary of several.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If the processes are launched in a way in which they would not train together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TermArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        **kwargs: Any,
    ):
        check_launch(args)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self._indexed(train_dataset, args),
            eval_dataset=self._indexed(eval_dataset, args),
            **kwargs,
        )
        # Otherwise `evaluate` does not call compute_loss on batches that carry no labels.
        self.can_return_loss = True
        self._terms: dict[str, list[Tensor]] = defaultdict(list)
        self._step: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        self._staging: str | None = None
        self.add_callback(StepHooks(self))
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(TermProgress())

    def index_rows(self, rows: Any, args: TermArguments) -> IndexedRows:
        """The rows with their place and epoch; called before the Trainer is set up."""
        return IndexedRows(rows, args.on_bad_row)

    def _indexed(self, rows: Any, args: TermArguments) -> Any:
        """Index rows, a dictionary of several, or none; a name stands for rows that are indexed already."""
        if isinstance(rows, dict):
            return {name: self._indexed(part, args) for name, part in rows.items()}
        if rows is None or isinstance(rows, (str, IndexedRows)):
            return rows
        return self.index_rows(rows, args)

    def get_eval_dataloader(self, eval_dataset: Any = None):
        return super().get_eval_dataloader(self._indexed(eval_dataset, self.args))

    # Terms

    def weighted_sum(self, terms: dict[str, tuple[float, Callable[[], Tensor]]], rows: Tensor) -> Tensor:
        """Sum of weight times value over the terms. A term of weight 0 is never computed."""
        values = {name: term() for name, (weight, term) in terms.items() if weight != 0}
        self.record({name: value.detach() for name, value in values.items()}, rows)
        return sum(terms[name][0] * value for name, value in values.items())

    def record(self, values: dict[str, Tensor], rows: Tensor, broken: Tensor | None = None) -> None:
        """Note the detached values of a batch for the logs, and for the check before the optimizer's step.

        Args:
            values (`dict`): Scalars.
            rows (`torch.Tensor` of shape `(B,)`): Where the batch's rows stand in the dataset.
            broken (`torch.BoolTensor` of shape `(B,)`, *optional*): Rows known to have numbers that are not finite.
        """
        for name, value in values.items():
            self._terms[name].append(value)
        if self.model.training:
            self._step.append((rows, torch.zeros_like(rows).bool() if broken is None else broken, values))

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

    def check_finite(self) -> None:
        """Stop before an optimizer step that would destroy the weights."""
        total = sum(value.sum() for *_, values in self._step for value in values.values())
        if not torch.isfinite(torch.as_tensor(total)):
            bad = {name for *_, values in self._step for name, value in values.items() if not value.isfinite().all()}
            batches = [(rows, broken) for rows, broken, values in self._step if _broken(values)]
            suspects = torch.cat([rows[broken] if broken.any() else rows for rows, broken in batches]).tolist()
            raise FloatingPointError(
                f"loss is not finite at step {self.state.global_step + 1}: {', '.join(sorted(bad))}. Nothing was "
                f"updated or saved. Rows of this process that may be the cause: {suspects}"
            )
        self._step.clear()

    def after_optimizer_step(self) -> None:
        """What a method does to its weights after each step of the optimizer."""

    # Checkpoints

    def save_extra_state(self, folder: str) -> None:
        """Write what a method needs besides the model into the checkpoint."""

    def load_extra_state(self, folder: str) -> None:
        """Read it back on resume."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save and is_adapted(self.model):
            name_magnitudes(output_dir or self.args.output_dir)

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


def _broken(values: dict[str, Tensor]) -> bool:
    """Whether a term of a batch is not finite."""
    return any(not value.isfinite().all() for value in values.values())
