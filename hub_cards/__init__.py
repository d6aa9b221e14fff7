"""Model cards: one template, one YAML file of facts a method, every number from evaluation results."""

from .render import read_facts, render_card, write_card

__all__ = ["read_facts", "render_card", "write_card"]
