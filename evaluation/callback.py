"""Evaluation during training: the gain in composition and the loss in recognition, step by step."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import ProcessorMixin, Trainer, TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled

from .benchmarks import Benchmark
from .evaluator import evaluate_model
from .report import COMPOSITION, PALETTE, RETENTION, saved
from .results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "composition"
TRADE_OFF = "eval_composition_trade_off"

logger = logging.getLogger(__name__)


def trade_off(
    composition: float, retention: float, start_retention: float, penalty: float = 1.0, tolerance: float = 0.01
) -> float:
    """Weigh a model's composition against its loss in recognition.

    A loss within the tolerance costs nothing, so that noise does not decide. Beyond it, each lost point costs `penalty`
    points of composition. A gain in recognition earns nothing.

    Args:
        composition, retention (`float`): Scores of composition and of recognition, in [0, 1].
        start_retention (`float`): Score of recognition before training, in [0, 1].
        penalty (`float`): Points of composition per lost point of recognition, >= 0.
        tolerance (`float`): Loss of recognition that costs nothing, in [0, 1].

    Returns:
        `float`: composition - penalty * max(0, start_retention - retention - tolerance).
    """
    return composition - penalty * max(0.0, start_retention - retention - tolerance)


class CompositionCallback(TrainerCallback):
    """Evaluates the model before training, every few steps and after the last step, and keeps the best checkpoint.

    The scores that tables show are logged as `eval_<benchmark>/<score>`, and the trade-off that selects the best
    checkpoint as `eval_composition_trade_off`. Each evaluation is written to `composition/step-<n>/results.json` in the
    output folder, and `composition/curve.png` shows them all. Whenever the trade-off is the best so far, a checkpoint
    is saved and `state.best_model_checkpoint` names it. The model before training is the reference, not a candidate.

    Processes share the encoding; the first process writes. Training modes and random streams are the same as without an
    evaluation. On resume, the previous evaluations are read from the output folder.

    Example:

    ```python
    benchmarks = [SceneComposition(100), SceneZeroShot()]
    trainer.add_callback(CompositionCallback(trainer, benchmarks, every_steps=100))
    trainer.train()
    best = CLIPModel.from_pretrained(trainer.state.best_model_checkpoint)
    ```

    Args:
        trainer (`Trainer`): The trainer to which the callback is added, with a `processing_class`.
        benchmarks (sequence of `Benchmark`): Benchmarks to evaluate on.
        every_steps (`int`): Optimizer steps between two evaluations, >= 1.
        composition, retention (`str`): Score that should improve, and score that should not drop: `"benchmark/score"`.
        penalty, tolerance (`float`): See `trade_off`.
        load_best (`bool`): Whether training ends with the weights of the best checkpoint.
        batch_size (`int`, *optional*): As in `evaluate_model`.
        num_workers (`int`): Processes that decode images; 0 decodes in this process.

    Raises:
        ValueError: If `every_steps` is below 1, the benchmark of one of the two scores is missing, the trainer selects
            the best checkpoint itself, or no process holds the whole model.
    """

    def __init__(
        self,
        trainer: Trainer,
        benchmarks: Sequence[Benchmark],
        every_steps: int,
        composition: str = COMPOSITION,
        retention: str = RETENTION,
        penalty: float = 1.0,
        tolerance: float = 0.01,
        load_best: bool = False,
        batch_size: int | None = None,
        num_workers: int = 0,
    ):
        names = [benchmark.name for benchmark in benchmarks]
        if absent := {composition.partition("/")[0], retention.partition("/")[0]} - set(names):
            raise ValueError(f"benchmarks {names}; composition and retention need {', '.join(sorted(absent))} too")
        if every_steps < 1:
            raise ValueError(f"every_steps {every_steps}; must be at least 1")
        if trainer.args.metric_for_best_model is not None:
            raise ValueError(
                f"metric_for_best_model {trainer.args.metric_for_best_model!r}: the trade-off selects the best "
                "checkpoint; omit metric_for_best_model and load_best_model_at_end, and set load_best instead"
            )
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise ValueError(
                "under FSDP or ZeRO-3 no process has all weights, so the model cannot be evaluated during training; "
                "evaluate its checkpoints"
            )
        trainer.args.load_best_model_at_end = load_best
        self.trainer = trainer
        self.benchmarks = list(benchmarks)
        self.every_steps = every_steps
        self.composition, self.retention = composition, retention
        self.penalty, self.tolerance = penalty, tolerance
        self.loading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        self.folder = Path(trainer.args.output_dir or ".", FOLDER)
        self.history: list[tuple[int, Results]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        steps = [entry["step"] for entry in state.log_history if TRADE_OFF in entry]
        if not steps:
            self._evaluate(state, control)
        elif state.is_world_process_zero:
            self.history = [(step, Results.from_json(self._results_file(step))) for step in steps]

    def on_step_end(self, args, state, control, **kwargs):
        step = state.global_step
        if step % self.every_steps and step < state.max_steps:
            return
        value = self._evaluate(state, control)
        if state.best_metric is None or value > state.best_metric:
            state.best_metric, state.best_global_step = value, step
            state.best_model_checkpoint = str(Path(args.output_dir, f"checkpoint-{step}"))
            control.should_save = True
        if state.is_world_process_zero:
            plot_curve(
                self.history, self.folder / "curve.png", self.composition, self.retention, state.best_global_step
            )

    def on_train_end(self, args, state, control, **kwargs):
        values = [entry[TRADE_OFF] for entry in state.log_history if TRADE_OFF in entry]
        if state.is_world_process_zero and max(values) == values[0]:
            logger.warning(
                "no evaluated step has a better trade-off (%.4f at best) than the start of training (%.4f)",
                max(values[1:], default=float("nan")),
                values[0],
            )

    def _evaluate(self, state, control) -> float:
        """Evaluate, log, write the results, and return the trade-off."""
        results = evaluate_model(
            self.trainer.accelerator.unwrap_model(self.trainer.model),
            cast(ProcessorMixin, self.trainer.processing_class),
            self.benchmarks,
            name=f"step {state.global_step}",
            progress=False,
            **self.loading,
        )
        shown = {f"{name}/{score}" for name, result in results.benchmarks.items() for score in result.columns}
        shown |= {self.composition, self.retention}
        logs = {f"eval_{key}": value for key, value in results.metrics.items() if key in shown}
        composition, retention = results.find(self.composition).value, results.find(self.retention).value
        start = next((entry for entry in state.log_history if TRADE_OFF in entry), logs)[f"eval_{self.retention}"]
        value = trade_off(composition, retention, start, self.penalty, self.tolerance)
        should_log = control.should_log
        self.trainer.log(logs | {TRADE_OFF: value})
        control.should_log = should_log  # logging clears it, and this step's training loss would be lost
        if state.is_world_process_zero:
            self.history.append((state.global_step, results))
            path = self._results_file(state.global_step)
            path.parent.mkdir(parents=True, exist_ok=True)
            results.to_json(path)
        return value

    def _results_file(self, step: int) -> Path:
        """Return the results file of a step."""
        return self.folder / f"step-{step}" / "results.json"


def plot_curve(
    history: Sequence[tuple[int, Results]],
    path: str | Path | None = None,
    composition: str = COMPOSITION,
    retention: str = RETENTION,
    best_step: int | None = None,
) -> "Figure":
    """Draw composition and recognition over the steps of a training run.

    Bands are 95 % intervals, dashed lines are the scores before training, and a vertical line marks the best step.

    Args:
        history (sequence of step and `Results`): At least one, in the order of the steps.
        path (`str` or `Path`, *optional*): PNG file to write.
        composition, retention (`str`): Scores to draw: `"benchmark/score"`.
        best_step (`int`, *optional*): Step to mark.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: If results lack one of the scores.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained", dpi=150)
    axes = figure.subplots()
    steps = [step for step, _ in history]
    for key, kind, colour, marker in (
        (composition, "composition", PALETTE[0], "o"),
        (retention, "recognition", PALETTE[5], "s"),
    ):
        scores = [results.find(key) for _, results in history]
        low, high = zip(*(score.interval for score in scores), strict=True)
        axes.fill_between(steps, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.15, lw=0)
        axes.plot(
            steps, [100 * score.value for score in scores], color=colour, marker=marker, ms=5, label=f"{kind}: {key}"
        )
        axes.axhline(100 * scores[0].value, color=colour, ls="--", lw=1)
    if best_step:
        axes.axvline(best_step, color="0.6", lw=1, zorder=0, label=f"best trade-off: step {best_step}")
    axes.plot([], [], color="0.4", ls="--", lw=1, label="start of training")
    axes.set(xlabel="optimizer step", ylabel="%")
    axes.set_title("Gain and cost of training", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return saved(figure, path)
