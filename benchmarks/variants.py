"""Who competes: variants of an operator, registered by decorators beside their code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

import torch

from fastvae import backends
from fastvae.measure.reports.document import FUSED, NAIVE
from fastvae.ops import Choice

Function = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
F = TypeVar("F", bound=Callable)

# How naive code is run: as it stands, and by torch.compile in the modes that make sense on a device. Modes that record
# CUDA graphs of their own cannot be recorded in ours, and each call overwrites what the last one returned.
COMPILERS = {
    "compiled": ("default", ("cpu", "cuda")),
    "reduce-overhead": ("reduce-overhead", ("cuda",)),
    "max-autotune": ("max-autotune", ("cuda",)),
}
OWN_GRAPHS = ("reduce-overhead", "max-autotune")
# The reference is the specification and competes with nobody; on the CPU, Triton is an interpreter.
CHOICES: tuple[Choice, ...] = get_args(Choice)
TIMED_BACKENDS = {"native": ("cpu", "cuda"), "triton": ("cuda",)}


@dataclass(frozen=True)
class Variant:
    """`function` takes a case's operands and its keywords."""

    name: str
    function: Function
    role: str = NAIVE
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("fp32", "bf16", "fp16")
    mode: str | None = None  # torch.compile's
    backend: str | None = None  # fastvae's, which is demanded
    choice: Choice | None = None  # what torch.compile is given of fastvae's operator, where that is demanded
    capturable: bool = True  # False: stops for the host, or records graphs itself

    def context(self, device: str) -> AbstractContextManager:
        """Demands the backend, where another would serve, and what torch.compile is given."""
        if self.choice is not None:
            return backends.compiled.to(self.choice)
        if self.backend is None or backends.serving(device) == self.backend:
            return nullcontext()
        return backends.use(self.backend)

    def compiled(self, compiler: str = "inductor") -> Function:
        """The function to call; compiled when it is first called."""
        return compiled(self.function, self.mode, compiler)


def compiled(function: F, mode: str | None, compiler: str = "inductor") -> F:
    """`function` in one of torch.compile's modes; as it stands, in none. Only inductor knows modes."""
    if mode is None:
        return function
    inductor = mode if compiler == "inductor" else None
    result = cast(F, torch.compile(function, dynamic=False, backend=compiler, mode=inductor))
    return _stepped(result) if mode in OWN_GRAPHS else result


_VARIANTS: dict[str, list[Variant]] = {}


def variant(operator: str, name: str, **facts: Any) -> Callable[[F], F]:
    """Registers a function as variant `name` of `operator`."""

    def register(function: F) -> F:
        _VARIANTS.setdefault(operator, []).append(Variant(name, function, **facts))
        return function

    return register


def naive(operator: str) -> Callable[[F], F]:
    """A snippet as people write it: eager, and in each of torch.compile's modes."""

    def register(function: F) -> F:
        variant(operator, "eager")(function)
        for name, (mode, devices) in COMPILERS.items():
            variant(operator, name, mode=mode, devices=devices, capturable=name not in OWN_GRAPHS)(function)
        return function

    return register


def fused(operator: str, manner: str | None = None) -> Callable[[F], F]:
    """fastvae's, on every backend that is timed, and compiled; `manner` tells apart several ways to call it."""

    def register(function: F) -> F:
        for backend, devices in TIMED_BACKENDS.items():
            name = backend if manner is None else f"{backend}, {manner}"
            variant(operator, name, role=FUSED, backend=backend, devices=devices)(function)
        for choice in CHOICES if manner is None else ():
            variant(operator, f"{choice}, compiled", role=FUSED, mode="default", choice=choice)(function)
        return function

    return register


def variants(operator: str, device: str, dtype: str = "fp32") -> dict[str, Variant]:
    """Those that can run here, fastvae's first."""
    runnable = [v for v in _registered()[operator] if device in v.devices and dtype in v.dtypes and _serves(v, device)]
    return {v.name: v for v in sorted(runnable, key=lambda v: v.role != FUSED)}


def specification(operator: str) -> Function:
    """fastvae's function, which also takes `eps=`. On the reference backend in float64 it gives the right results."""
    return next(v.function for v in _registered()[operator] if v.role == FUSED)


def _registered() -> dict[str, list[Variant]]:
    from . import categorical, counts, likelihood, pixels, posterior  # noqa: F401  importing registers

    return _VARIANTS


def _serves(variant: Variant, device: str) -> bool:
    return variant.backend is None or backends.BACKENDS[variant.backend].why_not(device) is None


def _stepped(function: F) -> F:
    @functools.wraps(function)
    def step(*operands, **keywords):
        torch.compiler.cudagraph_mark_step_begin()  # what the last call returned may be overwritten
        return function(*operands, **keywords)

    return cast(F, step)
