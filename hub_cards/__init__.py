"""Model cards, publication on the Hub, and the small models and the Space that are published."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
