"""The compiled CPU library: finds and loads it. Loading registers its kernels for CPU tensors."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import torch


@functools.cache
def load() -> str | None:
    """Load the library once. Returns None, or the reason why there is none."""
    path = _find("_cpu.so")
    if path is None:
        return "the native CPU library was not built; reinstall fastvae where a C++ compiler is found"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded: {error}"
    return None


def instruction_set() -> str:
    """The instruction set that serves; the widest unless FASTVAE_CPU_ISA names another."""
    return _text("fastvae_cpu_isa")


def instruction_sets() -> list[str]:
    """The instruction sets that this processor and this build have, widest first."""
    return _text("fastvae_cpu_isas").split()


def _text(function: str) -> str:
    path, problem = _find("_cpu.so"), load()
    if path is None or problem is not None:
        raise RuntimeError(problem)
    call = getattr(ctypes.CDLL(os.fspath(path)), function)
    call.restype = ctypes.c_char_p
    return call().decode()


def _find(name: str) -> Path | None:
    # An editable install keeps compiled files apart from the sources: the package then has two directories.
    import fastvae

    return next((p for folder in fastvae.__path__ if (p := Path(folder) / name).is_file()), None)
