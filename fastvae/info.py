"""What is installed and who computes: the text of `fastvae info`."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from . import backends
from .backends import native
from .machine import describe, installed_version


def lines() -> Iterator[str]:
    versions = {"triton": installed_version("triton"), "cuda": torch.version.cuda or "none"}
    for name, value in {**describe(), **versions}.items():
        yield f"{name + ':':<22}{value}"
    for name, problem in backends.available().items():
        yield f"{'backend ' + name + ':':<22}{problem or 'ready'}"
    if native.why_not("cpu") is None:
        yield f"{'instruction set:':<22}{native.instruction_set()} of {', '.join(native.instruction_sets())}"
    for device in _devices():
        yield f"{'serves ' + device + ':':<22}{backends.serving(device)}"


def _devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]
