"""The work of `compalign convert`."""
