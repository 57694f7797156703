"""Kernels in Triton, for NVIDIA and AMD GPUs; under TRITON_INTERPRET=1 they run on CPU tensors too, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import torch

from ...ops import Contract


def why_not(device_type: str) -> str | None:
    """None where this backend serves the type of device, else the reason and what would help."""
    if device_type not in ("cpu", "cuda"):
        return f"no kernel of fastvae's was written for {device_type!r} tensors"
    if find_spec("triton") is None:
        return "Triton is not installed: pip install triton"
    if device_type == "cpu" and not interpreting():
        return "Triton computes on CPU tensors in its interpreter only, with TRITON_INTERPRET=1 in the environment"
    if device_type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return "this torch was built without CUDA or ROCm"
    return None


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU: Triton asks once, when they are defined."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")


def functions(contracts: Mapping[str, Contract]) -> Mapping[str, Callable]:
    """The kernels by operator; imports Triton."""
    # They register their kernels.
    from . import categorical, counts, likelihood, mixture, noise, objective, pixels, posterior, registry  # noqa: F401

    return {name: registry.FUNCTIONS[name] for name in contracts if name in registry.FUNCTIONS}
