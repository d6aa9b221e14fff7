"""Our metrics for the `evaluate` library: `evaluate.load` takes the path of one of these files."""
