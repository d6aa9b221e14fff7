"""Comparisons of results with published numbers, with other models, and along weight interpolations."""
