"""What starts a run: a recipe, the model and the rows that it names, and one way to train, save and record."""
