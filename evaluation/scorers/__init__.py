"""Scorers: how well texts fit images by each kind of model, under one protocol."""
