"""Who computes an operator: one backend serves each type of device, chosen once, overridable.

`reference` is plain torch and serves any device that nothing faster serves; `native` is the compiled library for CPU
tensors. Naming a backend, by `use` or by the environment variable FASTVAE_BACKEND, demands it: where it cannot serve,
that is an error, never a quiet change of backend.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator

import torch

from . import native, reference

_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}  # where a faster backend may stand before the reference
_demanded: str | None = None
_operators: tuple[str, ...] = ()
_fallback = torch.library.Library("fastvae", "IMPL")
_override: torch.library.Library | None = None


def available() -> dict[str, str | None]:
    """Each backend, with None where it can serve and the reason where it cannot."""
    return {"native": native.load(), "reference": None}


def serving(device_type: str) -> str:
    """The name of the backend that computes on tensors of this type of device ("cpu", "cuda", ...)."""
    if _demanded is not None:
        return _demanded
    return "native" if device_type == "cpu" and native.load() is None else "reference"


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Demand a backend for the duration of a `with` block, in all threads.

    Raises:
        ValueError: there is no backend of that name.
        RuntimeError: the backend cannot serve here; the message says why and what would help.
    """
    before = _demanded
    _demand(name)
    try:
        yield
    finally:
        _demand(before)


def register(operators: tuple[str, ...]) -> None:
    """Give each operator its kernels. Called once, when the operators have been defined."""
    global _operators
    _operators = operators
    for operator, function in _reference_functions().items():
        _fallback.impl(operator, _announced(function), "CompositeExplicitAutograd")
    native.load()
    _demand(os.environ.get("FASTVAE_BACKEND") or None)


def _demand(name: str | None) -> None:
    """Put `name` before what would serve else; None takes that back."""
    global _demanded, _override
    if name is not None:
        _check(name)
    if _override is not None:
        _override._destroy()
        _override = None
    if name == "reference":
        _override = _before_all(_reference_functions())
    _demanded = name


def _before_all(functions: dict[str, Callable]) -> torch.library.Library:
    library = torch.library.Library("fastvae", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other operators may also be overridden", category=UserWarning)
        for operator, function in functions.items():
            for key in _DISPATCH_KEYS.values():
                library.impl(operator, function, key, allow_override=True)
    return library


def _reference_functions() -> dict[str, Callable]:
    return {name: getattr(reference, name) for name in _operators}


def _check(name: str) -> None:
    reasons = available()
    if name not in reasons:
        raise ValueError(f"backend {name!r} is unknown; there are {', '.join(map(repr, reasons))}")
    if reasons[name] is not None:
        raise RuntimeError(f"backend {name!r} cannot serve: {reasons[name]}")


def _announced(function: Callable) -> Callable:
    """The reference, saying once for each type of device that it serves for want of something faster."""

    @functools.wraps(function)
    def call(*args):
        device = next(arg.device.type for arg in args if isinstance(arg, torch.Tensor))
        if device != "meta":
            _announce(device)
        return function(*args)

    return call


@functools.cache
def _announce(device_type: str) -> None:
    reason = native.load() if device_type == "cpu" else "no compiled backend serves it"
    warnings.warn(
        f"fastvae: plain torch computes on {device_type!r} tensors ({reason}); results are right, speed is not",
        stacklevel=2,
    )
