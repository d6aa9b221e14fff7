"""Make a small model of the generated world that comes with the package: train, save, evaluate, write its card.

    python -m compalign.scripts.release --model degla --output_dir hub_cards/released/scenes_degla

Trains by the recipe in scripts/recipes, on generated scenes alone, and evaluates what was saved, as its users load it.
Beside the weights, of at most 4 MB, lie results.json, training_log.json, README.md and a chart. `--train false`
evaluates and documents again what the folder holds.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, set_seed
from transformers.utils import logging

from ..evaluation import (
    Results,
    SceneComposition,
    SceneQuestions,
    SceneRetrieval,
    evaluate_comalign,
    evaluate_questions,
    plot_results,
    table,
)
from ..evaluation.report import PALETTE, error_bar
from ..trainers import CALArguments, ComAlignArguments, NegCLIPArguments
from ..trainers.comalign_entry import ComponentDataArguments, ComponentModelArguments, make_comalign_trainer
from ..trainers.conversation_entry import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from ..trainers.recipe import parse_recipe
from . import train_scenes_base
from .cal_scenes import word_weights
from .comalign_scenes import known_regions
from .demo import (
    TrainingChoice,
    document,
    dual_encoder_benchmarks,
    evaluate_saved,
    fine_tune,
    save,
    training_arguments,
)

CHART = "chart.png"
LANGUAGE_LAYERS = 3  # a fourth would take LLaVA past 4 MB in half precision
CAPTIONS_WEIGHED = 100


@dataclass(kw_only=True)
class ReleaseArguments(TrainingChoice):
    """Which model to make."""

    model: Literal["base", "negclip", "ceclip", "degla", "comalign", "cal"] = field(
        metadata={"help": "Which of the released models."}
    )
    output_dir: str = field(metadata={"help": "Its folder."})
    train: bool = field(default=True, metadata={"help": "false: evaluate and document what the folder holds."})


def main(arguments: list[str] | None = None) -> None:
    """Make the model that is asked for."""
    (args,) = parse_recipe(ReleaseArguments, arguments=arguments, description=__doc__)
    logging.set_verbosity_error()
    folder = Path(args.output_dir)
    match args.model:
        case "base":
            release_base(args, folder)
        case "comalign":
            release_comalign(args, folder)
        case "cal":
            release_cal(args, folder)
        case method:
            release_dual_encoder(method, args, folder)


def release_base(args: ReleaseArguments, folder: Path) -> None:
    """The base model, from scratch; its own command trains and documents it."""
    flags = args.flags("scenes_base", folder)
    if args.train:
        train_scenes_base.main(flags)
        return
    shape, training = parse_recipe(train_scenes_base.BaseArguments, NegCLIPArguments, arguments=flags)
    train_scenes_base.evaluate_and_document(folder, {**vars(shape), **training.to_dict()}, args.items)


def release_dual_encoder(method: str, args: ReleaseArguments, folder: Path) -> None:
    """The base model, fine-tuned with NegCLIP, CE-CLIP or DeGLA."""
    training = training_arguments(method, folder, args)
    if args.train:
        fine_tune(method, training, args.base)
    benchmarks = dual_encoder_benchmarks(args.items)
    own = evaluate_saved(folder, benchmarks, folder.name)
    present(folder, method, own, training.to_dict(), evaluate_saved(args.base, benchmarks, Path(args.base).name))


def release_comalign(args: ReleaseArguments, folder: Path) -> None:
    """ComAlign's heads over the base model, which stays where it is."""
    start, data, training = parse_recipe(
        ComponentModelArguments,
        ComponentDataArguments,
        ComAlignArguments,
        arguments=[*args.flags("comalign_scenes", folder), "--backbone", args.base],
    )
    if args.train:
        with tempfile.TemporaryDirectory() as data.features:
            trainer = make_comalign_trainer(start, data, training)
            trainer.train()
            # So that both folders can be moved, or cloned, together.
            trainer.model.config.backbone = os.path.relpath(args.base, folder)
            save(trainer.model, trainer.processing_class, trainer.state, folder)
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    benchmarks = [SceneComposition(args.items), SceneRetrieval(args.items)]
    regions = known_regions(args.items, data.scene_size, "test")
    own = evaluate_comalign(model, processor, benchmarks, regions, name=folder.name)
    own.notes.append("given the true regions of each scene; what a detector misses or invents is not in these scores")
    base = evaluate_saved(args.base, benchmarks, Path(args.base).name)
    present(folder, "comalign", own, {**vars(start), **vars(data), **training.to_dict()}, base)


def present(folder: Path, method: str, own: Results, recipe: Mapping[str, Any], base: Results) -> None:
    """Draw, document and print scores beside those of the base model."""
    plot_results([base, own], folder / CHART)
    document(folder, method, own, recipe, base_results=base, chart=CHART)
    print(table([base, own]))


def release_cal(args: ReleaseArguments, folder: Path) -> None:
    """A small LLaVA on the vision tower of the base model, trained with CAL, in half precision."""
    start, data, training = parse_recipe(
        ConversationModelArguments,
        ConversationDataArguments,
        CALArguments,
        arguments=[
            *args.flags("cal_scenes", folder),
            *("--vision_tower", args.base),
            *("--language_layers", str(LANGUAGE_LAYERS)),
        ],
    )
    if args.train:
        set_seed(training.seed)
        trainer = make_cal_trainer(start, data, training)
        trainer.train()
        save(trainer.model.to(torch.float16), trainer.processing_class, trainer.state, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    own = evaluate_questions(model, processor, SceneQuestions(args.items, data.scene_size), name=folder.name)
    weights = word_weights(model, processor, CAPTIONS_WEIGHED, data.scene_size)
    shown = ", ".join(f"{kind} {weight:.2f}" for kind, weight in weights.items())
    own.notes.append(f"mean weight that CAL gives to each kind of word in {CAPTIONS_WEIGHED} test captions: {shown}")
    draw_answers(own, weights, folder / CHART)
    document(folder, "cal", own, {**vars(start), **vars(data), **training.to_dict()}, chart=CHART)
    print(table([own]))


def draw_answers(results: Results, weights: Mapping[str, float], path: Path) -> None:
    """Draw the accuracy of each kind of question with its blind baselines, and the weight of each kind of word."""
    from matplotlib.figure import Figure

    (result,) = results.benchmarks.values()
    asked = {title: result.scores[name] for name, title in result.columns.items() if name in result.scores}
    scores = list(asked.values())
    places = range(len(scores))
    figure = Figure(figsize=(11, 4), layout="constrained", dpi=120)
    answers, words = figure.subplots(1, 2, width_ratios=[2, 1])
    heights, errors = [100 * score.value for score in scores], np.concatenate(list(map(error_bar, scores)), axis=1)
    bars = answers.bar(places, heights, 0.7, yerr=errors, color=PALETTE[0], error_kw={"elinewidth": 0.8})
    handles, labels = [bars], [results.model]
    for marker, name in zip("D^", scores[0].baselines, strict=True):
        blind = [100 * score.baselines[name]["strict"] for score in scores]
        handles.append(answers.scatter(places, blind, 40, "black", marker, edgecolors="white", zorder=3))
        labels.append(f"blind: {name}")
    answers.set_xticks(places, list(asked))
    answers.set(ylim=(0, 100), ylabel="accuracy, %")
    answers.set_title("Answers by kind of question", loc="left", fontsize=11)
    words.bar(list(weights), list(weights.values()), 0.7, color=PALETTE[2])
    words.set(ylim=(1, 5), ylabel="mean weight, from 1 to 5")
    words.set_title("What the image adds to a word", loc="left", fontsize=11)
    for axes in (answers, words):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
