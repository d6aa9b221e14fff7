"""compalign: vision-language models that understand composition, on the Hugging Face stack.

The public names below are loaded when they are first used, so `import compalign` costs nothing.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("compalign")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
