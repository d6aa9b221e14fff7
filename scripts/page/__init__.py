"""The page of `compalign space`: its inputs, models, views and layout."""
