"""A linear probe of image embeddings: do they hold which thing has which colour, and where it lies?

A dual encoder that ignores binding may do so because its image embeddings lack it, or because its text embeddings do
not ask for it. Linear classifiers on frozen embeddings tell: one output per pair of colour and noun, and one per noun
for its side of the image. They are then asked what captions ask: the true pair against the exchanged one.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from ...data.scenes import COLOURS, NOUNS, Scene, generate_scene, render

OBJECTS = 2
BATCH, STEPS, LEARNING_RATE = 512, 1500, 0.05


class Probed(NamedTuple):
    """Accuracies of linear probes, in [0, 1], and the number of scenes each was asked about."""

    colours: float
    places: float
    scenes: int


def probe(
    model: PreTrainedModel, processor: ProcessorMixin, train: int = 16_000, test: int = 1000, image_size: int = 64
) -> Probed:
    """Fit probes on scenes of two objects of the training split, and ask them about scenes of the validation split.

    The validation split shows no held-out combination, for whose pairs a linear probe has no examples.

    Args:
        model, processor: A dual encoder in evaluation mode, and its processor.
        train, test (`int`): Number of scenes to fit on, and to ask about.
        image_size (`int`): Side of the images in pixels.

    Returns:
        `Probed`: How often the true colours (places) of the two objects score above the exchanged ones.
    """
    fitted = [generate_scene(2**40 + seed, OBJECTS) for seed in range(train)]
    asked = [generate_scene(seed, OBJECTS, "validation") for seed in range(test)]
    features, seen = (embed_scenes(model, processor, scenes, image_size) for scenes in (fitted, asked))
    mean, scale = features.mean(0), features.std(0) + 1e-6
    features, seen = (features - mean) / scale, (seen - mean) / scale
    colours = fit(features, torch.stack([colour_targets(scene) for scene in fitted]))(seen)
    sides = fit(features, torch.stack([side_targets(scene) for scene in fitted]))(seen)
    right_colours, right_sides = [], []
    for scene, of_pair, of_side in zip(asked, colours.tolist(), sides.tolist(), strict=True):
        (a, b), (x, y) = ([NOUNS.index(item.noun) for item in scene.objects], scene.objects)
        c, d = COLOURS.index(x.colour), COLOURS.index(y.colour)
        width = len(COLOURS)
        right_colours.append(
            of_pair[a * width + c] + of_pair[b * width + d] > of_pair[a * width + d] + of_pair[b * width + c]
        )
        if abs(x.centre[0] - y.centre[0]) > 0.18:  # clearly beside each other
            right_sides.append((of_side[a] < of_side[b]) == (x.centre[0] < y.centre[0]))
    return Probed(float(np.mean(right_colours)), float(np.mean(right_sides)), test)


@torch.inference_mode()
def embed_scenes(model: PreTrainedModel, processor: ProcessorMixin, scenes: list[Scene], image_size: int) -> Tensor:
    """Embed the images of scenes: L2-normalised, of shape `(scenes, D)`."""
    parts = []
    for start in range(0, len(scenes), BATCH):
        images = [render(scene, image_size) for scene in scenes[start : start + BATCH]]
        pixels = processor(images=images, return_tensors="pt")["pixel_values"].to(model.device)
        parts.append(functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1))
    return torch.cat(parts).float().cpu()


def colour_targets(scene: Scene) -> Tensor:
    """Mark the pairs of noun and colour that are there."""
    target = torch.zeros(len(NOUNS), len(COLOURS))
    for item in scene.objects:
        target[NOUNS.index(item.noun), COLOURS.index(item.colour)] = 1
    return target.flatten()


def side_targets(scene: Scene) -> Tensor:
    """Mark the side of each noun that is there: 1 for right, 0 for left; NaN for nouns that are not there."""
    target = torch.full((len(NOUNS),), torch.nan)
    for item in scene.objects:
        target[NOUNS.index(item.noun)] = float(item.centre[0] > 0.5)
    return target


def fit(features: Tensor, targets: Tensor) -> torch.nn.Linear:
    """Fit a logistic regression per column of targets; a target of NaN takes no part."""
    linear = torch.nn.Linear(features.shape[1], targets.shape[1])
    torch.nn.init.zeros_(linear.weight)
    optimizer = torch.optim.Adam(linear.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(len(features), (BATCH,), generator=draw)
        target = targets[chosen]
        known = ~target.isnan()
        loss = functional.binary_cross_entropy_with_logits(linear(features[chosen])[known], target[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return linear.requires_grad_(False)
