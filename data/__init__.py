"""Captions, images and negatives: everything a trainer or an evaluation reads."""

from .bad_rows import RowReport
from .captions import load_captions
from .components import load_components
from .conversations import load_conversations
from .negatives import Negative, NegativeGenerator

__all__ = ["Negative", "NegativeGenerator", "RowReport", "load_captions", "load_components", "load_conversations"]
