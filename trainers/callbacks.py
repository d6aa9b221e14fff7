"""Callbacks of every trainer."""

from typing import TYPE_CHECKING

from transformers import TrainerCallback
from transformers.trainer_callback import ProgressCallback

if TYPE_CHECKING:
    from .term_trainer import TermTrainer


class StepHooks(TrainerCallback):
    """Calls the trainer's own hooks around epochs and optimizer steps."""

    def __init__(self, trainer: "TermTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        # With several processes accelerate's loader tells the sampler but forgets the dataset.
        self.trainer.train_dataset.set_epoch(int(state.epoch))

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.check_finite()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.after_optimizer_step()


class TermProgress(ProgressCallback):
    """A progress bar that shows the loss and its terms instead of printing a dictionary a log."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and self.training_bar is not None and "loss" in logs:
            hidden = {"epoch", "grad_norm", "learning_rate"}
            self.training_bar.set_postfix({key: f"{value:.3g}" for key, value in logs.items() if key not in hidden})
