"""Losses, trainers and their arguments: one file a method."""

from .cal import CALArguments, CALTrainer
from .ceclip import CECLIPArguments, CECLIPTrainer
from .comalign import ComAlignArguments, ComAlignTrainer
from .degla import DeGLAArguments, DeGLATrainer
from .negclip import NegCLIPArguments, NegCLIPTrainer

__all__ = [
    "CALArguments",
    "CALTrainer",
    "CECLIPArguments",
    "CECLIPTrainer",
    "ComAlignArguments",
    "ComAlignTrainer",
    "DeGLAArguments",
    "DeGLATrainer",
    "NegCLIPArguments",
    "NegCLIPTrainer",
]
