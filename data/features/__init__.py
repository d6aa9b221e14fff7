"""Features: embeddings of images, crops and texts by a frozen encoder, each computed once and kept.

- `encode` computes what a store lacks, in one process or several.
- `store` keeps vectors by content key, in memory or in files.
- `fingerprint` describes everything that the features of an encoder depend on, so that no two share a store.
- `slots` arranges the components of images and captions among these features, for ComAlign.
"""
