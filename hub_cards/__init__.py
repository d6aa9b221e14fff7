"""Model cards, publication on the Hub, and the small models and the Space that are published."""

from .publishing import Publication, publish
from .render import read_facts, render_card, write_card

__all__ = ["Publication", "publish", "read_facts", "render_card", "write_card"]
