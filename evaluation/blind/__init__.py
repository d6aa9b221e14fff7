"""Blind baselines: scores that captions get without their images."""
