"""CAL against plain fine-tuning on conversations about generated scenes, on clean and on noisy text.

    python -m compalign.scripts.cal_scenes --config scripts/recipes/cal_scenes.yaml --output_dir runs/cal_comparison

For every seed and share of shuffled conversations it trains one model with CAL and one without, and measures the
accuracy of their answers to questions about scenes of the test split. Of the first model it also shows which words get
the weight. Finished runs are read from the output folder, so an interrupted comparison goes on where it stopped.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin, set_seed

from ..data.conversation_formats import image_part, text_part
from ..data.scenes import full_caption, generate_scene, questions, render
from ..data.scenes.graph import COLOURS, PATTERNS, RELATIONS, SHAPES, SIZES, Scene
from ..data.scenes.questions import Question
from ..trainers import CALArguments
from ..trainers.contrast_pass import image_token_ids
from ..trainers.conversation_collator import ConversationCollator, ConversationEncoder
from ..trainers.conversation_entry import (
    ConversationDataArguments,
    ConversationModelArguments,
    make_cal_trainer,
)
from ..trainers.recipe import parse_recipe
from ..trainers.token_losses import IGNORED
from .tokens import weigh_tokens

BATCH = 64
VISUAL = {
    "attribute": {*COLOURS, *SIZES, *PATTERNS},
    "shape": set(SHAPES),
    "relation": {word for relation in RELATIONS for word in relation.split()} - {"of"} | {"over", "under"},
}


@dataclass
class ComparisonArguments:
    """What to compare."""

    seeds: int = field(default=3, metadata={"help": "Runs of each kind."})
    noise: list[float] = field(default_factory=lambda: [0.0, 0.2], metadata={"help": "Shares of shuffled rows."})
    scenes_asked: int = field(default=500, metadata={"help": "Test scenes whose questions are asked."})
    captions_weighed: int = field(default=100, metadata={"help": "Test captions whose words are weighed."})


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what is missing, then print the table."""
    comparison, start, data, args = parse_recipe(
        ComparisonArguments,
        ConversationModelArguments,
        ConversationDataArguments,
        CALArguments,
        arguments=arguments,
        description=__doc__,
    )
    runs = []
    for seed, noise, cal in product(range(comparison.seeds), comparison.noise, (True, False)):
        path = Path(args.output_dir, f"seed{seed}_noise{noise}_{'cal' if cal else 'plain'}.json")
        if not path.exists():
            args.seed, args.cal, data.shuffled = seed, cal, noise
            run = {"seed": seed, "noise": noise, "cal": cal, **train_and_ask(comparison, start, data, args)}
            path.write_text(json.dumps(run, indent=1) + "\n")
        runs.append(json.loads(path.read_text()))
        print(f"{path.stem}: accuracy {runs[-1]['accuracy']:.1%}", flush=True)
    print(summary(runs, blind_accuracy(comparison.scenes_asked)))
    return runs


def train_and_ask(
    comparison: ComparisonArguments,
    start: ConversationModelArguments,
    data: ConversationDataArguments,
    args: CALArguments,
) -> dict[str, Any]:
    """One run: its accuracy, that of each kind of question, and the mean weight of each kind of word."""
    set_seed(args.seed)
    trainer = make_cal_trainer(start, data, args)
    trainer.train()
    model, processor = trainer.model.eval(), trainer.processing_class
    correct = ask(model, processor, comparison.scenes_asked, data.scene_size)
    answers = [hit for hits in correct.values() for hit in hits]
    return {
        "accuracy": sum(answers) / len(answers),
        "questions": len(answers),
        "kinds": {kind: sum(hits) / len(hits) for kind, hits in sorted(correct.items())},
        "weights": word_weights(model, processor, comparison.captions_weighed, data.scene_size),
    }


def asked_questions(scenes: int, split: str) -> Iterator[tuple[Scene, Question]]:
    """All questions about the first scenes of a split."""
    for seed in range(scenes):
        scene = generate_scene(seed, split=split)
        yield from ((scene, question) for question in questions(scene, random.Random(f"asked/{seed}")))


def blind_accuracy(scenes: int) -> float:
    """What answering each kind of question with its most frequent answer in training reaches on the test split."""
    answers = defaultdict(Counter)
    for _, question in asked_questions(scenes, "train"):
        answers[question.kind][question.answer] += 1
    hits = [
        question.answer == answers[question.kind].most_common(1)[0][0]
        for _, question in asked_questions(scenes, "test")
    ]
    return sum(hits) / len(hits)


@torch.no_grad()
def ask(model: PreTrainedModel, processor: ProcessorMixin, scenes: int, size: int) -> dict[str, list[bool]]:
    """Ask all questions about scenes of the test split; whether the likeliest word is the answer, by kind."""
    encode = ConversationEncoder(processor, image_token_ids(model))
    rows, kinds = [], []
    for scene, question in asked_questions(scenes, "test"):
        asked = {"role": "user", "content": [image_part(), text_part(question.text)]}
        answer = {"role": "assistant", "content": [text_part(question.answer)]}
        rows.append({**encode({"images": [render(scene, size)], "messages": [asked, answer]}), "row": len(rows)})
        kinds.append(question.kind)
    collate, hits = ConversationCollator(processor), []
    for first in range(0, len(rows), BATCH):
        batch = collate(rows[first : first + BATCH])
        labels, _ = batch.pop("labels"), batch.pop("row")
        hits += _first_answer_is_right(model(**batch).logits, labels).tolist()
    correct = defaultdict(list)
    for kind, hit in zip(kinds, hits, strict=True):
        correct[kind].append(hit)
    return correct


def _first_answer_is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether each row's first supervised token is the likeliest: answers are one word."""
    place = (labels != IGNORED).int().argmax(1)
    rows = torch.arange(len(labels))
    return logits[rows, place - 1].argmax(-1) == labels[rows, place]


def word_weights(model: PreTrainedModel, processor: ProcessorMixin, captions: int, size: int) -> dict[str, float]:
    """Mean weight of the attributes, shapes, relations and other words of captions of the test split, unsmoothed."""
    found = defaultdict(list)
    for seed in range(captions):
        scene = generate_scene(seed, split="test")
        text = full_caption(scene, random.Random(f"weighed/{seed}")).text
        # The end token is no word.
        for token, _, weight in weigh_tokens(
            model, processor, render(scene, size), "Describe the image.", text, window=1
        )[:-1]:
            kind = next((kind for kind, words in VISUAL.items() if token in words), "function")
            found[kind].append(weight)
    return {kind: sum(weights) / len(weights) for kind, weights in sorted(found.items())}


def summary(runs: Sequence[dict[str, Any]], blind: float) -> str:
    """Accuracies as a table, mean and range over seeds, and the mean weights of the runs with CAL on clean text."""
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


if __name__ == "__main__":
    main()
