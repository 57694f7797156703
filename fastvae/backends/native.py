"""The compiled libraries: `_cpu` and `_cuda`. Loading one registers its kernels for that device's tensors."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import torch

from . import cuda

LIBRARIES = {"cpu": "_cpu.so", "cuda": "_cuda.so"}
CHECKS = {"cuda": cuda.why_not}  # what a library is asked once it is loaded
_loaded: dict[str, ctypes.CDLL] = {}


def why_not(device_type: str) -> str | None:
    """None where the device's library serves, else the reason. Loads it, and may ask the GPUs."""
    sys.modules[__package__].settle(device_type)
    return load(device_type)


@functools.cache
def why_absent(device_type: str) -> str | None:
    """The reason why there is no library for the device, or None; loads nothing and touches no GPU."""
    name = LIBRARIES.get(device_type)
    if name is None:
        return f"there is no compiled library for {device_type!r} tensors"
    if device_type == "cuda" and torch.version.cuda is None:
        return "this torch was built without CUDA"
    if find(name) is None:
        wanted = {"cpu": "a C++ compiler", "cuda": "nvcc"}[device_type]
        return f"the native {device_type.upper()} library was not built; reinstall fastvae where {wanted} is found"
    return None


@functools.cache
def load(device_type: str) -> str | None:
    """`why_not`, for the registry: kernels are registered here, also those of a library that then cannot serve."""
    problem, path = why_absent(device_type), library(device_type)
    if problem is not None or path is None:
        return problem
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded: {error}"
    _loaded[device_type] = ctypes.CDLL(os.fspath(path))  # the same library again
    check = CHECKS.get(device_type)
    return None if check is None else check(functools.partial(_told, device_type))


def operators(device_type: str) -> frozenset[str]:
    """Those that the device's library, if it is loaded, has kernels for."""
    return frozenset(_told(device_type, "fastvae_operators").split()) if device_type in _loaded else frozenset()


def instruction_set() -> str:
    """The CPU instruction set that serves; the widest unless FASTVAE_CPU_ISA names another."""
    return _told_by_cpu("fastvae_cpu_isa")


def instruction_sets() -> list[str]:
    """The instruction sets that this processor and this build have, widest first."""
    return _told_by_cpu("fastvae_cpu_isas").split()


def _told_by_cpu(function: str) -> str:
    problem = why_not("cpu")
    if problem is not None:
        raise RuntimeError(problem)
    return _told("cpu", function)


def _told(device_type: str, function: str) -> str:
    call = getattr(_loaded[device_type], function)
    call.restype = ctypes.c_char_p
    return call().decode()


def library(device_type: str) -> Path | None:
    """The file of the device's library, for programs that load it without Python."""
    return find(LIBRARIES[device_type]) if device_type in LIBRARIES else None


def find(name: str) -> Path | None:
    # An editable install keeps compiled files apart from the sources: the package then has two directories.
    package = sys.modules[__name__.partition(".")[0]]

    return next((p for folder in package.__path__ if (p := Path(folder) / name).is_file()), None)
