"""Make one of the small models of the generated world: train, save, evaluate, write its card.

    compalign scenes model --model degla --output_dir runs/scenes_degla

Trains by the recipe of the method in scripts/recipes, on generated scenes alone, and evaluates the model as its users
load it. Beside the weights of at most 4 MB lie results.json, training_log.json, README.md and a chart. `--no_train`
evaluates and documents the model that the folder holds.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from transformers.utils import logging

from ...evaluation import Results, SceneQuestions, evaluate_model, plot_results, table
from ...evaluation.report import PALETTE, error_bar
from ...hub_cards.staging import LEFT_OUT
from ...modeling import load_model, load_processor
from ...trainers import CALArguments, NegCLIPArguments
from ...trainers.launch.cal import ConversationDataArguments, ConversationModelArguments, make_cal_trainer
from ...trainers.launch.recipe import parse_recipe
from ...trainers.launch.run import train_and_save
from . import base
from .choice import CHART, TrainingChoice
from .fine_tuning import fine_tune, training_arguments
from .heads import evaluate_heads, heads_recipe, recipe_values, relative_backbone, train_heads
from .reading import read_first
from .saved import document, dual_encoder_benchmarks, evaluate_saved
from .word_weights import mean_weights, weighed_words

LANGUAGE_LAYERS = 2  # a third would take LLaVA past 4 MB in half precision
CAPTIONS_WEIGHED = 100


@dataclass(kw_only=True)
class SmallModelArguments(TrainingChoice):
    """The model to make."""

    model: Literal["base", "negclip", "ceclip", "degla", "comalign", "cal"] = field(
        metadata={"help": "Small model to make."}
    )
    output_dir: str = field(metadata={"help": "Folder of the model.", "group": "output"})
    train: bool = field(default=True, metadata={"help": "Train the model before it is evaluated and documented."})


def main(arguments: list[str] | None = None) -> None:
    """Make the model that is asked for."""
    (args,) = parse_recipe(
        SmallModelArguments, arguments=arguments, description=__doc__, command="compalign scenes model"
    )
    logging.set_verbosity_error()
    folder = Path(args.output_dir)
    match args.model:
        case "base":
            make_base(args, folder)
        case "comalign":
            make_comalign(args, folder)
        case "cal":
            make_cal(args, folder)
        case method:
            make_dual_encoder(method, args, folder)


@contextmanager
def training_folder(folder: Path) -> Iterator[str]:
    """Give a temporary folder to train in; what belongs to a published model is copied into the folder afterwards."""
    with TemporaryDirectory() as top:
        run = os.path.join(top, "run")
        yield run
        shutil.copytree(run, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT, base.VISION, "*.py"))


def make_base(args: SmallModelArguments, folder: Path) -> None:
    """Train the base model from scratch, and document it."""
    flags = args.flags("scenes_base", folder)
    shape, training = parse_recipe(base.BaseModelArguments, NegCLIPArguments, arguments=flags)
    if args.train:
        with training_folder(folder) as training.output_dir:
            base.train(shape, training)
    base.evaluate_and_document(folder, {**vars(shape), **training.to_dict()}, args.items)


def make_dual_encoder(method: str, args: SmallModelArguments, folder: Path) -> None:
    """Fine-tune the base model with NegCLIP, CE-CLIP or DeGLA."""
    training = training_arguments(method, folder, args)
    if args.train:
        with training_folder(folder) as training.output_dir:
            fine_tune(method, training, args.base)
    benchmarks = dual_encoder_benchmarks(args.items)
    own = evaluate_saved(folder, benchmarks, folder.name)
    base_results = evaluate_saved(args.base, benchmarks, Path(args.base).name)
    present(folder, method, own, training.to_dict(), base_results, args.base_model)


def make_comalign(args: SmallModelArguments, folder: Path) -> None:
    """Train ComAlign's heads over the base model, which stays where it is."""
    recipe = heads_recipe(folder, args)
    if args.train:
        training = recipe[2]
        with training_folder(folder) as training.output_dir:
            train_heads(recipe, relative_backbone(args.base, folder))
    benchmarks = dual_encoder_benchmarks(args.items)
    own = evaluate_heads(folder, benchmarks, folder.name)
    base_results = evaluate_saved(args.base, benchmarks, Path(args.base).name)
    present(folder, "comalign", own, recipe_values(recipe), base_results, args.base_model)


def present(
    folder: Path,
    method: str,
    own: Results,
    recipe: Mapping[str, Any],
    base_results: Results,
    base_model: str | None,
) -> None:
    """Draw, document and print scores beside those of the base model."""
    plot_results([base_results, own], folder / CHART)
    document(folder, method, own, recipe, base_results=base_results, base_model=base_model, chart=CHART)
    print(table([base_results, own]))


def make_cal(args: SmallModelArguments, folder: Path) -> None:
    """Train a small LLaVA on the vision tower of the base model with CAL, and save it in half precision."""
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
        with training_folder(folder) as training.output_dir, TemporaryDirectory() as reading:
            reader = read_first(start, Path(reading), args.max_steps)
            train_and_save(make_cal_trainer(reader, data, training), torch.float16)
    model, processor = load_model(folder, dtype="auto"), load_processor(folder)
    own = evaluate_model(model, processor, [SceneQuestions(args.items, data.scene_size)], name=folder.name)
    words = weighed_words(CAPTIONS_WEIGHED, data.scene_size)
    weights = {window: mean_weights(model, processor, words, window) for window in (1, training.cal_window)}
    for window, means in weights.items():
        shown = ", ".join(f"{kind} {weight:.2f}" for kind, weight in means.items())
        smoothing = "without smoothing" if window == 1 else f"smoothed over {window} tokens, as training uses it"
        own.notes.append(f"mean weight of each kind of word in {CAPTIONS_WEIGHED} test captions, {smoothing}: {shown}")
    own.notes.append("its language model learned to read before it saw images: scripts/recipes/cal_scenes_reading.yaml")
    draw_answers(own, weights, folder / CHART)
    recipe = {**vars(start), **vars(data), **training.to_dict()}
    document(folder, "cal", own, recipe, base_model=args.base_model, chart=CHART)
    print(table([own]))


def draw_answers(results: Results, weights: Mapping[int, Mapping[str, float]], path: Path) -> None:
    """Draw the accuracy of each kind of question with its blind baselines, and the weights of words by window."""
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
    kinds = list(next(iter(weights.values())))
    for k, (window, means) in enumerate(weights.items()):
        title = "no smoothing" if window == 1 else f"over {window} tokens"
        words.bar(
            np.arange(len(kinds)) + 0.38 * k, [means[kind] for kind in kinds], 0.36, color=PALETTE[2 + k], label=title
        )
    words.set_xticks(np.arange(len(kinds)) + 0.19, kinds)
    words.set(ylim=(1, 5.8), yticks=range(1, 6), ylabel="mean weight, from 1 to 5")  # with room for the legend
    words.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
    words.set_title("Mean weight of each kind of word", loc="left", fontsize=11)
    for axes in (answers, words):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, format="png")
