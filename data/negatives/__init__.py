"""Negative captions: close to a true caption, and false."""

from .generator import CECLIP_KINDS, DEFAULT_KINDS, Negative, NegativeGenerator, coverage, prepare
from .tagging import SpacyTagger, TextBlobTagger, Token

__all__ = [
    "CECLIP_KINDS",
    "DEFAULT_KINDS",
    "Negative",
    "NegativeGenerator",
    "SpacyTagger",
    "TextBlobTagger",
    "Token",
    "coverage",
    "prepare",
]
