"""Components of images and captions: entities and relations, with boxes in images and phrases in captions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
