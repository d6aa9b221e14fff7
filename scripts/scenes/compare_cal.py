"""CAL against plain fine-tuning on conversations about generated scenes, on clean and on noisy text.

    compalign scenes compare_cal --config scripts/recipes/cal_scenes.yaml --output_dir runs/comparison

For every seed and share of shuffled conversations it trains one model with CAL and one without, and measures how often
they answer questions about scenes of the test split correctly. It also reports the mean weight that CAL gives to each
kind of word. Finished runs are read from the output folder, so an interrupted comparison continues where it stopped.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from ...data.scenes import (
    COLOURS,
    PATTERNS,
    QUESTION_KINDS,
    RELATIONS,
    SHAPES,
    SIZES,
    full_caption,
    generate_scene,
    render,
)
from ...evaluation import SceneQuestions, evaluate_model
from ...trainers import CALArguments
from ...trainers.launch.cal import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from ..tokens import weigh_tokens

VISUAL = {
    "attribute": {*COLOURS, *SIZES, *PATTERNS},
    "shape": set(SHAPES),
    "relation": {word for relation in RELATIONS for word in relation.split()} - {"of"} | {"over", "under"},
}


@dataclass
class ComparisonArguments:
    """The runs to compare and the items to measure them on."""

    seeds: int = field(default=3, metadata={"help": "Number of seeds per setting."})
    noise: list[float] = field(
        default_factory=lambda: [0.0, 0.2], metadata={"help": "Shares of conversations with a shuffled text."}
    )
    scenes_asked: int = field(default=500, metadata={"help": "Number of test scenes asked about."})
    captions_weighed: int = field(default=100, metadata={"help": "Number of test captions whose words are weighted."})


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what is missing, then print the table."""
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
    runs = []
    for seed, noise, cal in product(range(comparison.seeds), comparison.noise, (True, False)):
        name = f"seed{seed}_noise{noise}_{'cal' if cal else 'plain'}"
        path = folder / f"{name}.json"
        if not path.exists():
            args.seed, args.cal, data.shuffled, args.output_dir = seed, cal, noise, str(folder / name)
            run = {"seed": seed, "noise": noise, "cal": cal, **train_and_ask(comparison, start, data, args)}
            path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        runs.append(json.loads(path.read_text(encoding="utf-8")))
        print(f"{name}: accuracy {runs[-1]['accuracy']:.1%}", flush=True)
    asked = SceneQuestions(comparison.scenes_asked, data.scene_size)
    print(summary(runs, float(asked.baselines["most frequent answer"].mean())))
    return runs


def train_and_ask(
    comparison: ComparisonArguments,
    start: ConversationModelArguments,
    data: ConversationDataArguments,
    args: CALArguments,
) -> dict[str, Any]:
    """Train one model; measure its accuracy, overall and per kind of question, and the mean weight per kind of word."""
    trainer = make_cal_trainer(start, data, args)
    train_and_save(trainer)
    model, processor = trainer.model.eval(), trainer.processing_class
    asked = SceneQuestions(comparison.scenes_asked, data.scene_size)
    results = evaluate_model(model, processor, [asked], name="model", progress=False)
    scores = results.benchmarks[asked.name].scores
    return {
        "accuracy": scores["all_micro"].value,
        "without_image": scores["all_micro"].baselines["model without the image"]["strict"],
        "questions": scores["all_micro"].n,
        "kinds": {kind: scores[kind].value for kind in QUESTION_KINDS if kind in scores},
        "weights": word_weights(model, processor, comparison.captions_weighed, data.scene_size),
    }


def word_weights(model: PreTrainedModel, processor: ProcessorMixin, captions: int, size: int) -> dict[str, float]:
    """Measure the mean weight, without smoothing, of each kind of word in captions of the test split."""
    found = defaultdict(list)
    for seed in range(captions):
        scene = generate_scene(seed, split="test")
        text = full_caption(scene, random.Random(f"weighed/{seed}")).text
        # The end token is not a word.
        for token, _, weight in weigh_tokens(
            model, processor, render(scene, size), "Describe the image.", text, window=1
        )[:-1]:
            kind = next((kind for kind, words in VISUAL.items() if token in words), "function")
            found[kind].append(weight)
    return {kind: sum(weights) / len(weights) for kind, weights in sorted(found.items())}


def summary(runs: Sequence[dict[str, Any]], blind: float) -> str:
    """Lay out accuracies with their range over seeds, and the mean weights of runs with CAL on the cleanest text."""
    lines = ["| shuffled | CAL | plain | difference |", "| ---: | ---: | ---: | ---: |"]
    for noise in sorted({run["noise"] for run in runs}):
        cells = []
        for cal in (True, False):
            values = [100 * run["accuracy"] for run in runs if run["noise"] == noise and run["cal"] is cal]
            cells.append((sum(values) / len(values), min(values), max(values)))
        texts = [f"{mean:.1f} ({least:.1f} to {most:.1f})" for mean, least, most in cells]
        lines.append(f"| {noise:.0%} | {texts[0]} | {texts[1]} | {cells[0][0] - cells[1][0]:+.1f} |")
    clean = [run["weights"] for run in runs if run["cal"] and run["noise"] == min(run["noise"] for run in runs)]
    means = {kind: sum(weights[kind] for weights in clean) / len(clean) for kind in clean[0]}
    lines += ["", f"blind, the most frequent answer of each kind of question: {100 * blind:.1f}"]
    lines += ["mean weight: " + ", ".join(f"{kind} {weight:.2f}" for kind, weight in means.items())]
    return "\n".join(lines)
