"""A function in two processes that talk over gloo."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import debug_launcher


def launch(function: Callable, *arguments: Any) -> None:
    """Run `function(*arguments)` in two forked processes."""
    debug_launcher(_single_threaded, args=(function, arguments), num_processes=2)


def _single_threaded(function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)  # a forked process waits for ever for OpenMP threads that stayed with its parent
    function(*arguments)
