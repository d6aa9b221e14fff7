"""Chat encoding: conversations as tokens of the processor's chat template, with labels on the answers only.

- `encoder` encodes a conversation and its images for an image-text-to-text model.
- `labels` finds the tokens of the assistant's answers.
"""

IGNORED_LABEL = -100  # label of an unsupervised token, which torch's cross-entropy leaves out
