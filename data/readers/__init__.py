"""Readers: captions and conversations from the formats that people have, with every bad row named and counted.

A reader runs four steps, each once and in this order:

1. `sources` reads a file, a folder, a dataset or a Hub name into plain records.
2. `caption_formats` or `conversation_formats` turns a record into a row and checks its types.
3. `hygiene` checks what all formats share, and drops or masks unusable negatives.
4. `row_images` finds and checks the images.

`captions` and `conversations` are the readers. `bad_rows` collects the rows that a step refuses.
"""
