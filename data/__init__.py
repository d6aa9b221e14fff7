"""Data that trainers and evaluations read.

- `readers`: captions and conversations from files, datasets and the Hub.
- `negatives`: negative captions by rule.
- `components`: entities and relations of images and captions.
- `scenes`: generated scenes with captions, negatives, questions and components.
- `chat`: conversations as tokens and labels.
- `features`: embeddings by a frozen encoder, computed once and kept.
- `images`, `tokenization`, `processes`, `provenance`, `disk`: images opened safely, tokenizers without the Hub,
  values of all processes, versions and commits, files flushed to the disk.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
