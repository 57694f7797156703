"""The compiled libraries: `_cpu` and `_cuda`. Loading one registers its kernels for that device's tensors."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch

LIBRARIES = {"cpu": "_cpu.so", "cuda": "_cuda.so"}


@functools.cache
def why_not(device_type: str) -> str | None:
    """Load the device's library, once. Returns None, or the reason why there is none."""
    name = LIBRARIES.get(device_type)
    if name is None:
        return f"there is no compiled library for {device_type!r} tensors"
    if device_type == "cuda" and torch.version.cuda is None:
        return "this torch was built without CUDA"
    path = find(name)
    if path is None:
        wanted = {"cpu": "a C++ compiler", "cuda": "nvcc"}[device_type]
        return f"the native {device_type.upper()} library was not built; reinstall fastvae where {wanted} is found"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded: {error}"
    return None


def instruction_set() -> str:
    """The CPU instruction set that serves; the widest unless FASTVAE_CPU_ISA names another."""
    return _text("fastvae_cpu_isa")


def instruction_sets() -> list[str]:
    """The instruction sets that this processor and this build have, widest first."""
    return _text("fastvae_cpu_isas").split()


def _text(function: str) -> str:
    problem, path = why_not("cpu"), find(LIBRARIES["cpu"])
    if problem is not None or path is None:
        raise RuntimeError(problem)
    call = getattr(ctypes.CDLL(os.fspath(path)), function)  # loaded already: the same library again
    call.restype = ctypes.c_char_p
    return call().decode()


def library(device_type: str) -> Path | None:
    """The file of the device's library, for programs that load it without Python."""
    return find(LIBRARIES[device_type])


def find(name: str) -> Path | None:
    # An editable install keeps compiled files apart from the sources: the package then has two directories.
    package = sys.modules[__name__.partition(".")[0]]

    return next((p for folder in package.__path__ if (p := Path(folder) / name).is_file()), None)
