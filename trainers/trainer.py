"""A Trainer whose loss is a sum of named terms: terms in the logs, no step on a broken loss, atomic checkpoints."""

import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import rotate_checkpoints

from ..data.disk import flush
from ..modeling.kinds import load_weights
from .adapters import is_adapted, name_magnitudes
from .distributed import sum_over_processes, world_size
from .refusals import refuse_model_init, refuse_unheeded
from .rows import IndexedRows
from .streaming import StreamedRows, is_stream, plain_rows, stream_loader

STAGING = ".saving-checkpoint"  # hidden, so that no search for "checkpoint-*" can take it for a finished one


@dataclass
class BaseArguments(TrainingArguments):
    """Arguments of every trainer.

    These defaults differ from `TrainingArguments`: a log every 10 steps, `remove_unused_columns` and
    `logging_nan_inf_filter` off.
    """

    GROUP: ClassVar[str] = "method"

    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Dataset columns are not forward() arguments."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Hide non-finite losses; they stop the run instead."}
    )
    on_bad_row: Literal["skip", "raise"] = field(
        default="skip", metadata={"help": "Skip rows that cannot be used, named and counted, or stop at the first."}
    )
    resume: str = field(
        default="auto",
        metadata={
            "help": "Continue this run from its last checkpoint in output_dir (auto), begin it anew (never), or "
            "continue it from the checkpoint of this folder."
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Begin anew in an output_dir that holds another run."})


def sample_seed(args: TrainingArguments) -> int:
    """Return the root of the random choices about samples: `data_seed`, or `seed` where there is none."""
    return args.seed if args.data_seed is None else args.data_seed


class BaseTrainer(Trainer):
    """The part that the trainers of all methods share, whatever they train.

    Logs, the progress bar and `trainer_state.json` carry the mean of each unweighted term since the last log;
    `evaluate` reports them with its prefix.

    Args:
        model (`PreTrainedModel`): The model.
        args (`BaseArguments`): The recipe.
        train_dataset, eval_dataset: Map-style rows, or a stream of rows; for evaluation also a dictionary of several.
        kwargs: As for `transformers.Trainer`.

    Raises:
        ValueError: If the launched processes would run without synchronising gradients, or an argument would be passed
            over.
    """

    data_collator: Callable

    def __new__(cls, *args: Any, **kwargs: Any):
        refuse_model_init(kwargs)  # before a subclass reads the model
        return super().__new__(cls)

    def __init__(
        self,
        model: PreTrainedModel,
        args: BaseArguments,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        **kwargs: Any,
    ):
        check_launch(args)
        refuse_unheeded(args)
        streamed = is_stream(train_dataset)
        super().__init__(
            model=model,
            args=args,
            train_dataset=self.stream_rows(train_dataset, args) if streamed else self._indexed(train_dataset, args),
            eval_dataset=self._indexed(eval_dataset, args),
            **kwargs,
        )
        # Otherwise `evaluate` does not call compute_loss on batches that carry no labels.
        self.can_return_loss = True
        self._terms: dict[str, Tensor] = {}  # of each term: the sum of its values, and their number
        self._step: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        self._staging: str | None = None
        self.add_callback(StepHooks(self))
        if not args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(TermProgress())

    def index_rows(self, rows: Any, args: BaseArguments) -> IndexedRows:
        """The rows with their place and epoch; called before the Trainer is set up."""
        return IndexedRows(rows, args.on_bad_row)

    def stream_rows(self, rows: Any, args: BaseArguments) -> StreamedRows:
        """The rows of a training stream with their place and pass; called before the Trainer is set up."""
        return StreamedRows(rows, args.train_batch_size, args.on_bad_row)

    def get_train_dataloader(self):
        if isinstance(self.train_dataset, StreamedRows):
            return stream_loader(self.train_dataset, self.data_collator, self.args, self.accelerator)
        return super().get_train_dataloader()

    def _indexed(self, rows: Any, args: BaseArguments) -> Any:
        """Index rows, or a dictionary of several; a name stands for rows that are indexed already."""
        if isinstance(rows, dict):
            return {name: self._indexed(part, args) for name, part in rows.items()}
        if rows is None or isinstance(rows, (str, IndexedRows)):
            return rows
        return self.index_rows(plain_rows(rows), args)

    # Evaluation sees every row once, as the processor itself prepares it

    def get_eval_dataloader(self, eval_dataset: Any = None):
        rows = self._indexed(eval_dataset, self.args)
        named = self.eval_dataset[rows] if isinstance(rows, str) else rows
        with self._as_in_evaluation(self.eval_dataset if named is None else named):
            return super().get_eval_dataloader(rows)

    def get_test_dataloader(self, test_dataset: Any):
        rows = self._indexed(test_dataset, self.args)
        with self._as_in_evaluation(rows):
            return super().get_test_dataloader(rows)

    def evaluation_collator(self, rows: Any) -> Callable:
        """Return the collator of evaluations on these rows: without augmentation, where training has any."""
        return self.data_collator

    @contextmanager
    def _as_in_evaluation(self, rows: Any):
        """Let loaders be made with the collator of evaluations and with the last batch, however small."""
        collator = self.data_collator
        drop_last = self.args.dataloader_drop_last
        self.data_collator, self.args.dataloader_drop_last = self.evaluation_collator(rows), False
        try:
            yield
        finally:
            self.data_collator, self.args.dataloader_drop_last = collator, drop_last

    # Terms

    def sum_terms(self, terms: dict[str, tuple[float, Callable[[], Tensor]]], rows: Tensor) -> Tensor:
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
            one = torch.stack([value.float(), torch.ones_like(value, dtype=torch.float32)])
            self._terms[name] = self._terms[name] + one if name in self._terms else one
        if self.model.training:
            self._step.append((rows, torch.zeros_like(rows).bool() if broken is None else broken, values))
            if self.is_deepspeed_enabled:  # its backward pass takes the optimizer's step too
                self.check_finite()

    def _pop_term_means(self, prefix: str = "") -> dict[str, float]:
        """Means of the terms since the last call, over the batches of all processes."""
        terms, self._terms = self._terms, {}
        if not terms:
            return {}
        sums = sum_over_processes(torch.stack(list(terms.values())))  # (terms, 2)
        return {f"{prefix}{name}": mean for name, mean in zip(terms, (sums[:, 0] / sums[:, 1]).tolist(), strict=True)}

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
        training, self._terms = self._terms, {}
        try:
            yield
        finally:
            self._terms = training

    # Steps

    def train(self, *args: Any, **kwargs: Any):
        if not self.is_deepspeed_enabled:  # which keeps float32 copies itself
            hold_in_float32(self.model, self.args.bf16 or self.args.fp16)
        return super().train(*args, **kwargs)

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
        """Change the weights after each step of the optimizer, where a method does."""

    # Checkpoints

    def save_extra_state(self, folder: str) -> None:
        """Write the state that a method needs besides the model into a checkpoint.

        All processes call it, for each may hold a shard; only those with `args.should_save` write.
        """

    def load_extra_state(self, folder: str) -> None:
        """Read that state back on resume."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save and is_adapted(self.model):
            name_magnitudes(output_dir or self.args.output_dir)

    def _get_output_dir(self, trial: Any) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save into a hidden folder and rename it: an interrupted save is never mistaken for a checkpoint."""
        run_folder = super()._get_output_dir(trial)
        staging = os.path.join(run_folder, STAGING)
        staged, final = (
            os.path.join(folder, f"checkpoint-{self.state.global_step}") for folder in (staging, run_folder)
        )
        if self.args.should_save:
            clear_staging(staging)
        self.accelerator.wait_for_everyone()
        self._staging = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        is_best = self.state.best_model_checkpoint == staged
        if is_best:  # every process loads the best one at the end
            self.state.best_model_checkpoint = final
        self.save_extra_state(staged)
        if self.args.should_save and is_best:
            self.state.save_to_json(os.path.join(staged, TRAINER_STATE_NAME))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            move_into_place(staged, final)
            rotate_checkpoints(run_folder, self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(final)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._loads_plainly:
            load_weights(self.model if model is None else model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._loads_plainly:
            load_weights(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    @property
    def _loads_plainly(self) -> bool:
        """Whether a checkpoint is a whole model, as `from_pretrained` reads it."""
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        return isinstance(self.model, PreTrainedModel) and not sharded and not is_adapted(self.model)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train for an epoch; a finished run that is resumed in the midst of one trains nothing more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

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


# Callbacks


class StepHooks(TrainerCallback):
    """Calls the trainer's own hooks around epochs and optimizer steps."""

    def __init__(self, trainer: "BaseTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        # With several processes accelerate's loader tells the sampler but forgets the dataset.
        self.trainer.train_dataset.set_epoch(int(state.epoch))

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.check_finite()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.after_optimizer_step()


class TermProgress(ProgressCallback):
    """A progress bar that shows the loss and its terms instead of printing a dictionary per log."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and self.training_bar is not None and "loss" in logs:
            hidden = {"epoch", "grad_norm", "learning_rate"}
            self.training_bar.set_postfix({key: f"{value:.3g}" for key, value in logs.items() if key not in hidden})


# Checkpoints that exist whole or not at all


def clear_staging(staging: str) -> None:
    """Make an empty staging folder, and remove the leftovers of an interrupted save."""
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging)


def move_into_place(staged: str, final: str) -> None:
    """Flush a staged checkpoint to the disk, then give it its final name in one step.

    Args:
        staged (`str`): Folder with the complete checkpoint, on the same file system as `final`.
        final (`str`): Where it belongs. An older folder of that name is replaced.
    """
    for path in Path(staged).rglob("*"):
        if path.is_file():
            flush(path)
    replaced = Path(staged).with_name(f"{STAGING}-replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if os.path.exists(final):
        os.rename(final, replaced)
    os.rename(staged, final)
    flush(Path(final).parent)
    shutil.rmtree(replaced, ignore_errors=True)


# Precision


def hold_in_float32(model: nn.Module, mixed_precision: bool) -> None:
    """Make the trained parameters float32: in half precision the steps of a small learning rate round to nothing.

    Args:
        model (`nn.Module`): Changed in place. Frozen parameters keep their data type.
        mixed_precision (`bool`): Whether the forward pass brings both data types together.

    Raises:
        ValueError: If they would meet without mixed precision.
    """
    half = [parameter for parameter in model.parameters() if parameter.dtype in (torch.bfloat16, torch.float16)]
    trained = [parameter for parameter in half if parameter.requires_grad]
    if 0 < len(trained) < len(half) and not mixed_precision:
        raise ValueError(
            f"what is trained is held in float32, and {len(half) - len(trained)} frozen weights are {half[0].dtype}: "
            "set bf16, or load the model in float32"
        )
    for parameter in trained:
        parameter.data = parameter.data.float()


# Refusals at the start of a run


def check_launch(args: TrainingArguments) -> None:
    """Refuse launches whose processes would run without synchronising gradients, and engines that were never tried."""
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise ValueError(
            "FSDP is not supported: it takes no scalar parameter, such as CLIP's logit scale, and on CPUs transformers "
            "runs plain DDP in its place; to shard weights, pass --deepspeed scripts/deepspeed/zero3.json"
        )
    launched = max(world_size(), int(os.environ.get("WORLD_SIZE", "1")))
    if launched != args.world_size:
        raise ValueError(
            f"{launched} processes were launched but the trainer counts {args.world_size}: they would run without "
            "synchronising gradients. On CPUs start with torchrun, or accelerate launch --multi_gpu, and pass --use_cpu"
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"one process sees {args.n_gpu} GPUs and would split captions away from their images: start one process "
            "per GPU (accelerate launch or torchrun), or show it one GPU (CUDA_VISIBLE_DEVICES=0)"
        )
