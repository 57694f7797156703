"""Which operators have kernels here: the modules that hold them say so as they are imported."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from ...ops import Contract

FUNCTIONS: dict[str, Callable] = {}  # by operator


def implements(contract: Contract) -> Callable[[Callable], Callable]:
    """The decorated function computes the operator."""

    def note(function: Callable) -> Callable:
        FUNCTIONS[contract.name] = function
        return function

    return note


_HERE = contextlib.nullcontext()


def on_device(device: torch.device) -> contextlib.AbstractContextManager:
    """Triton launches on the current device."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return _HERE
    return torch.cuda.device(device)
