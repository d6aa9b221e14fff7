"""A page about an evaluation: its scores, and a gallery of its items with the choice of every model."""
