"""Which GPUs the CUDA library serves: its code against their compute capability, its runtime against their driver.

It serves all GPUs that torch sees, or none, since a tensor's kernel is chosen by the type of its device alone. A GPU
that it cannot serve leaves all of them to the next backend, unless CUDA_VISIBLE_DEVICES hides it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

Capability = tuple[int, int]


class Architecture(NamedTuple):
    """One that the library was compiled for."""

    capability: Capability
    suffix: str  # "f": for its family alone, "a": for itself alone
    is_code: bool
    is_ptx: bool


def _itself(built: Capability, device: Capability) -> bool:
    return built == device


def _major(built: Capability, device: Capability) -> bool:
    return built[0] == device[0] and built[1] <= device[1]


def _later(built: Capability, device: Capability) -> bool:
    return built <= device


# By suffix, the devices that machine code runs on and PTX can be compiled for: CUDA C++ Programming Guide, "Compute
# capabilities", and the documentation of nvcc, "GPU compilation".
_RUNS_ON = {"": _major, "f": _major, "a": _itself}
_COMPILES_FOR = {"": _later, "f": _major, "a": _itself}


def why_not(told: Callable[[str], str]) -> str | None:
    """None where the library serves all GPUs, else the reason. `told` gives the text of a function of the library."""
    driver, runtime = map(int, told("fastvae_cuda_versions").split())
    architectures = told("fastvae_cuda_architectures").split()
    for i in range(torch.cuda.device_count()):
        reason = problem(torch.cuda.get_device_capability(i), driver, runtime, architectures)
        if reason is not None:
            return f"cuda:{i}: {reason}"
    return None


def problem(capability: Capability, driver: int, runtime: int, architectures: Sequence[str]) -> str | None:
    """Of one device. Versions are CUDA's, 1000 * major + 10 * minor; no architectures: not known, and not checked."""
    if driver // 1000 < runtime // 1000:
        return f"the driver is for CUDA {_version(driver)}, the library needs one for {_version(runtime)}"
    built = [parsed(architecture) for architecture in architectures]
    if not built or any(a.is_code and _RUNS_ON[a.suffix](a.capability, capability) for a in built):
        return None
    major, minor = capability
    wanted = f"compute capability {major}.{minor}"
    remedy = f"reinstall fastvae with CUDAARCHS={major}{minor} in the environment"
    if not any(a.is_ptx and _COMPILES_FOR[a.suffix](a.capability, capability) for a in built):
        return f"the library was built for {', '.join(architectures)}, not for {wanted}; {remedy}"
    # A driver compiles no PTX of a later toolkit, not even of the same major version.
    if driver < runtime:
        return f"for {wanted} the library has PTX alone, which needs a driver for CUDA {_version(runtime)}; {remedy}"
    return None


def parsed(architecture: str) -> Architecture:
    """As CMake writes it: "90" is machine code and PTX, "90-real" and "90-virtual" are one of the two."""
    match = re.fullmatch(r"(\d+)(\d)([af]?)(|-real|-virtual)", architecture)
    if match is None:
        raise ValueError(f"{architecture!r} is no architecture")
    major, minor, suffix, kind = match.groups()
    return Architecture((int(major), int(minor)), suffix, is_code=kind != "-virtual", is_ptx=kind != "-real")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
