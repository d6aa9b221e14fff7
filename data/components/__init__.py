"""Components of images and captions: entities and relations, with boxes and with phrases."""

from .boxes import relation_regions
from .dependency import SpacyParser
from .detection import CocoInstances, Detector
from .files import load_components, write_components
from .rows import CaptionComponents, Entity, ImageComponents, Relation
from .text import ChunkParser, extract

__all__ = [
    "CaptionComponents",
    "ChunkParser",
    "CocoInstances",
    "Detector",
    "Entity",
    "ImageComponents",
    "Relation",
    "SpacyParser",
    "extract",
    "load_components",
    "relation_regions",
    "write_components",
]
