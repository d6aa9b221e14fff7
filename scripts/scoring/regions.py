"""The regions of the images of benchmarks, for ComAlign: known ones, those that a detector finds, or none."""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from ...data.components import Entity, Relation
from ...data.components.files import describe
from ...data.images import open_image
from ...data.scenes.components import scene_regions
from ...evaluation import Benchmark, SceneComposition, SceneRetrieval, SceneZeroShot
from .components import make_detector

GENERATED = (SceneComposition, SceneRetrieval, SceneZeroShot)

Regions = tuple[Sequence[Entity], Sequence[Relation]]


def regions_of(
    benchmarks: Sequence[Benchmark], detector: str | None = None
) -> tuple[Callable[[Any], Regions], list[str]]:
    """Choose what finds the regions of the images of benchmarks.

    Args:
        benchmarks (sequence of `Benchmark`): The benchmarks. The regions of generated scenes are read from the scenes.
        detector (`str`, *optional*): Hub id or folder of the detector that finds the regions of all other images.
            Without it, these images are compared as wholes.

    Returns:
        `tuple`: a function from an image to its entities and relations, as `evaluate_model` takes it, and notes that
        say where the regions of each benchmark come from.

    Raises:
        ValueError: If the detector is zero-shot: it looks for the phrases of a caption, and an image must have the same
            regions for all captions.
    """
    known = known_regions(benchmarks)
    others = [benchmark.name for benchmark in benchmarks if not isinstance(benchmark, GENERATED)]
    generated = [benchmark.name for benchmark in benchmarks if isinstance(benchmark, GENERATED)]
    notes = [f"regions of {', '.join(generated)}: those of the generated scenes"] if generated else []
    find = None
    if others and detector is not None:
        find = make_detector(detector)
        if find.zero_shot:
            raise ValueError(
                f"--detector {detector} is zero-shot and looks for the phrases of a caption; accepted: a detector with "
                "classes of its own, such as DETR, for an image must have the same regions for all captions"
            )
        notes.append(f"regions of {', '.join(others)}: found by {find.settings['model']}")
    elif others:
        notes.append(f"no regions of {', '.join(others)}: captions are compared with whole images; see --detector")

    def regions(image: Any) -> Regions:
        if isinstance(image, Image.Image) and (found := known.get(image.tobytes())):
            return found
        if find is None:
            return (), ()
        opened = open_image(image)
        row = describe("image", opened.size, find("image", opened, ()), [])
        return row.entities, row.relations

    return regions, notes


def known_regions(benchmarks: Sequence[Benchmark]) -> dict[bytes, Regions]:
    """Return the regions of the generated scenes among the images of benchmarks, by the pixels of the image."""
    return {
        image.tobytes(): scene_regions(scene, image.width)
        for benchmark in benchmarks
        if isinstance(benchmark, GENERATED)
        for image, scene in zip(benchmark.images, benchmark.scenes, strict=True)
    }
