"""What is installed and who computes: the text of `fastvae info`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from . import backends
from .backends import native
from .measure.machine import describe, installed_version


def lines() -> Iterator[str]:
    versions = {"triton": installed_version("triton"), "cuda": torch.version.cuda or "none"}
    for name, value in {**describe(), **versions}.items():
        yield _line(name, value)
    for i in range(torch.cuda.device_count()):
        yield _line(f"device cuda:{i}", torch.cuda.get_device_name(i))
    for device_type, library in native.LIBRARIES.items():
        yield _line(f"library {library}", native.why_not(device_type) or str(native.find(library)))
    if native.why_not("cpu") is None:
        yield _line("instruction set", f"{native.instruction_set()} of {', '.join(native.instruction_sets())}")
    for device_type in _device_types():
        yield _line(f"serves {device_type}", backends.serving(device_type))
        for name, backend in backends.BACKENDS.items():
            problem = backend.why_not(device_type)
            if problem is not None:
                yield _line(f"  not {name}", problem)


def _line(name: str, value: str) -> str:
    return f"{name + ':':<22}{value}"


def _device_types() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]
