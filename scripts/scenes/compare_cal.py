"""CAL against plain fine-tuning on conversations about generated scenes, part of whose text is about no image.

    compalign scenes compare_cal --config scripts/recipes/cal_scenes_comparison.yaml --output_dir runs/comparison

CAL's claim is about text that the image does not explain. For every seed and every share of such words this command
trains one model with CAL and one without, and measures on the way how often they answer questions about scenes of the
test split correctly. All runs start from one model, whose language model, if it is new, has learned to read first. The
table also has the mean weight that CAL gives to each kind of word, with and without smoothing. Finished runs are read
from the output folder, so an interrupted comparison continues where it stopped. Writes table.md and chart.png.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from ...data.scenes.conversations import scene_messages
from ...evaluation import SceneQuestions
from ...evaluation.report import PALETTE, markdown
from ...evaluation.scorers.questions import answer_questions
from ...trainers import CALArguments
from ...trainers.launch.cal import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from .reading import read_first
from .word_weights import mean_weights, weighed_words

SEEN = ("colour", "object")  # what the image tower knows well; the level is that of these questions
ROWS_COUNTED = 1000


@dataclass
class ComparisonArguments:
    """The runs to compare and the items to measure them on."""

    seeds: int = field(default=3, metadata={"help": "Number of seeds per setting."})
    shares: list[float] = field(
        default_factory=lambda: [0.0, 0.5, 0.75],
        metadata={"help": "Shares of the answers' words that are not about the image, in [0, 1)."},
    )
    level: float = field(
        default=0.8, metadata={"help": "Accuracy on colour and object questions whose first step is reported."}
    )
    measure_steps: int = field(default=25, metadata={"help": "Steps between two measurements."})
    scenes_asked: int = field(default=100, metadata={"help": "Number of test scenes asked about."})
    captions_weighed: int = field(default=100, metadata={"help": "Number of test captions whose words are weighted."})
    reading_steps: int | None = field(
        default=None,
        metadata={"help": "Steps in which a new language model learns to read first; default: as the recipe says."},
    )


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what is missing, then print and write the table and the chart."""
    comparison, start, data, args = parse_recipe(
        ComparisonArguments,
        ConversationModelArguments,
        ConversationDataArguments,
        CALArguments,
        arguments=arguments,
        description=__doc__,
        command="compalign scenes compare_cal",
    )
    folder = Path(args.output_dir)
    start = read_first(start, folder / "reading", comparison.reading_steps)
    asked = SceneQuestions(comparison.scenes_asked, data.scene_size, num_objects=data.scene_objects)
    runs = []
    for seed, share, cal in product(range(comparison.seeds), comparison.shares, (True, False)):
        name = f"seed{seed}_irrelevant{share}_{'cal' if cal else 'plain'}"
        path = folder / f"{name}.json"
        if not path.exists():
            args.seed, args.cal, data.irrelevant, args.output_dir = seed, cal, share, str(folder / name)
            run = {"seed": seed, "share": share, "cal": cal, **train_and_measure(comparison, asked, start, data, args)}
            path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        runs.append(json.loads(path.read_text(encoding="utf-8")))
        print(f"{name}: accuracy {runs[-1]['curve'][-1]['all']:.1%}", flush=True)
    text = summary(runs, comparison.level, float(asked.baselines["most frequent answer"].mean()))
    (folder / "table.md").write_text(text, encoding="utf-8")
    draw_curves(runs, folder / "chart.png")
    print(text)
    print(f"wrote {folder / 'table.md'} and {folder / 'chart.png'}")
    return runs


class AccuracyCurve(TrainerCallback):
    """Measures the accuracy on questions about scenes while a model is trained.

    Args:
        asked (`SceneQuestions`): The questions.
        processor (`ProcessorMixin`): The model's processor.
        steps (`int`): Steps between two measurements; the last step is always measured.
    """

    def __init__(self, asked: SceneQuestions, processor: Any, steps: int):
        self.asked, self.processor, self.steps = asked, processor, steps
        self.points: list[dict[str, float]] = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.steps and state.global_step < state.max_steps:
            return
        correct = answer_questions(model, self.processor, self.asked, progress=False).correct
        kinds = {kind: float(correct[self.asked.kinds == kind].mean()) for kind in dict.fromkeys(self.asked.kinds)}
        seen = float(correct[np.isin(self.asked.kinds, SEEN)].mean())
        self.points.append({"step": state.global_step, "all": float(correct.mean()), "seen": seen, **kinds})


def train_and_measure(
    comparison: ComparisonArguments,
    asked: SceneQuestions,
    start: ConversationModelArguments,
    data: ConversationDataArguments,
    args: CALArguments,
) -> dict[str, Any]:
    """Train one model; measure its accuracy on the way, and at the end the mean weight per kind of word."""
    trainer = make_cal_trainer(start, data, args)
    curve = AccuracyCurve(asked, trainer.processing_class, comparison.measure_steps)
    trainer.add_callback(curve)
    train_and_save(trainer)
    model, processor = trainer.model.eval(), trainer.processing_class
    words = weighed_words(comparison.captions_weighed, data.scene_size)
    return {
        "curve": curve.points,
        "questions": len(asked.asked),
        "irrelevant_words": irrelevant_share(data.irrelevant, data.scene_objects),
        "weights": {window: mean_weights(model, processor, words, window) for window in (1, args.cal_window)},
    }


def irrelevant_share(asked_for: float, num_objects: int | None = None) -> float:
    """Measure the share of the training answers' words that are not about the image."""
    relevant, everything = (
        sum(
            len(part["text"].split())
            for seed in range(ROWS_COUNTED)
            for message in scene_messages(seed, irrelevant=share, num_objects=num_objects)
            if message["role"] == "assistant"
            for part in message["content"]
        )
        for share in (0.0, asked_for)
    )
    return 1 - relevant / everything


def steps_to(curve: Sequence[dict[str, float]], level: float) -> float:
    """Return the first measured step whose accuracy on questions of `SEEN` reaches a level, or infinity."""
    return next((point["step"] for point in curve if point["seen"] >= level), float("inf"))


def summary(runs: Sequence[dict[str, Any]], level: float, blind: float) -> str:
    """Lay out accuracies and steps with their range over seeds, and the mean weights of runs with CAL."""
    rows = [["words about no image", "measure", "CAL", "plain"]]
    for share in sorted({run["share"] for run in runs}):
        of_share = [run for run in runs if run["share"] == share]
        title = f"{of_share[0]['irrelevant_words']:.0%}"
        for measure, values in (
            ("accuracy at the end, %", lambda run: 100 * run["curve"][-1]["all"]),
            ("colour and object, %", lambda run: 100 * run["curve"][-1]["seen"]),
            ("mean accuracy over the run, %", lambda run: 100 * np.mean([point["all"] for point in run["curve"]])),
            (f"steps to {level:.0%} of colour and object", lambda run: steps_to(run["curve"], level)),
        ):
            cells = [_cell([values(run) for run in of_share if run["cal"] is cal]) for cal in (True, False)]
            rows.append([title, measure, *cells])
    blind_text = f"Blind, the most frequent answer of each kind of question: {100 * blind:.1f} %."
    return "\n\n".join([markdown(rows), blind_text, *_weight_lines(runs)]) + "\n"


def _cell(values: Sequence[float]) -> str:
    """Write a mean with its range over seeds; a level that a seed never reached is said to be."""
    missed = sum(not np.isfinite(value) for value in values)
    if missed:
        return f"not reached by {missed} of {len(values)}"
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _weight_lines(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Say the mean weight of each kind of word, without and with smoothing, by share."""
    lines = []
    for share in sorted({run["share"] for run in runs}):
        weights = [run["weights"] for run in runs if run["cal"] and run["share"] == share]
        for window in weights[0]:
            means = {kind: np.mean([each[window][kind] for each in weights]) for kind in weights[0][window]}
            said = ", ".join(f"{kind} {mean:.2f}" for kind, mean in means.items())
            lines.append(f"Mean weight of CAL at {share:.0%}, window {window}: {said}.")
    return lines


def draw_curves(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw accuracy against steps, one panel per share: the mean over seeds, and their range as a band."""
    from matplotlib.figure import Figure

    shares = sorted({run["share"] for run in runs})
    figure = Figure(figsize=(4 * len(shares), 3.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, share in zip(panels, shares, strict=True):
        of_share = [run for run in runs if run["share"] == share]
        for cal, title, colour in ((True, "CAL", PALETTE[2]), (False, "plain", PALETTE[1])):
            curves = [run["curve"] for run in of_share if run["cal"] is cal]
            steps = [point["step"] for point in curves[0]]
            values = 100 * np.array([[point["all"] for point in curve] for curve in curves])
            axes.plot(steps, values.mean(0), color=colour, label=title, marker="o", markersize=3)
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        axes.set_title(f"{of_share[0]['irrelevant_words']:.0%} of words about no image", loc="left", fontsize=11)
        axes.set(xlabel="steps", xlim=(0, None))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("questions answered right, %")
    panels[0].legend(frameon=False, loc="lower right")
    figure.savefig(path, format="png")
