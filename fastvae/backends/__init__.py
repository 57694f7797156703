"""Who computes an operator: one backend serves each type of device, chosen once, overridable.

`native` is the compiled library of a device, `triton` compiles its kernels for the GPU at hand when they are first
called, `reference` is plain torch and serves any device that nothing faster serves. Naming a backend, by `use` or by
the environment variable FASTVAE_BACKEND, demands it: where it cannot serve, that is an error, never a quiet change of
backend.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from . import native, reference

Functions = Mapping[str, Callable]


class Backend(NamedTuple):
    """What the registry asks of a backend."""

    why_not: Callable[[str], str | None]  # by type of device: None where it can serve, else the reason
    functions: Callable[[], Functions] | None  # by operator; None: loading it has registered compiled kernels


def _triton_why_not(device_type: str) -> str | None:
    # Imported late: nobody needs Triton to import fastvae.
    from . import triton

    return triton.why_not(device_type)


def _triton_functions() -> Functions:
    from . import triton

    return triton.functions(_operators)


def _reference_functions() -> Functions:
    return {name: getattr(reference, name) for name in _operators}


# In the order in which they are preferred.
BACKENDS = {
    "native": Backend(native.why_not, None),
    "triton": Backend(_triton_why_not, _triton_functions),
    "reference": Backend(lambda device_type: None, _reference_functions),
}

_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}  # where a faster backend may stand before the reference
_demanded: str | None = None
_operators: tuple[str, ...] = ()
_undemanded = torch.library.Library("fastvae", "IMPL")
_override: torch.library.Library | None = None


def available() -> dict[str, str | None]:
    """Each backend, with None where it can serve some device here and the reason where it cannot."""
    return {name: _why_nowhere(backend) for name, backend in BACKENDS.items()}


def serving(device_type: str) -> str:
    """The name of the backend that computes on tensors of this type of device ("cpu", "cuda", ...)."""
    return _demanded or _preferred(device_type)


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Demand a backend for the duration of a `with` block, in all threads.

    Raises:
        ValueError: there is no backend of that name.
        RuntimeError: the backend cannot serve here; the message says why and what would help. Of a backend that serves
            one type of device and not another, the first tensor of the other raises it.
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
    for device_type in _DISPATCH_KEYS:
        native.why_not(device_type)  # loads the library, which puts its kernels before those below
    for operator in operators:
        _undemanded.impl(operator, _settled_at_call(operator), "CompositeExplicitAutograd")
    _demand(os.environ.get("FASTVAE_BACKEND") or None)


def _why_nowhere(backend: Backend) -> str | None:
    reasons = [backend.why_not(device_type) for device_type in _DISPATCH_KEYS]
    return None if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))


def _preferred(device_type: str) -> str:
    return next(name for name, backend in BACKENDS.items() if backend.why_not(device_type) is None)


def _settled_at_call(operator: str) -> Callable:
    def call(*args):
        return _functions_for(_device_type(args))[operator](*args)

    return call


@functools.cache
def _functions_for(device_type: str) -> Functions:
    """Of the backend that serves where there are no compiled kernels; the reference says that it does."""
    name = _preferred(device_type)
    if name == "reference":
        others = [f"{other}: {backend.why_not(device_type)}" for other, backend in BACKENDS.items() if other != name]
        warnings.warn(
            f"fastvae: plain torch computes on {device_type!r} tensors ({'; '.join(others)}); results are right, speed "
            "is not",
            stacklevel=3,
        )
    return _functions(BACKENDS[name])


def _functions(backend: Backend) -> Functions:
    assert backend.functions is not None  # compiled kernels stand before whatever asks this
    return backend.functions()


def _demand(name: str | None) -> None:
    """Put `name` before what would serve else; None takes that back."""
    global _demanded, _override
    if name is not None:
        _check(name)
    if _override is not None:
        _override._destroy()
        _override = None
    if name is not None:
        _override = torch.library.Library("fastvae", "IMPL")
        for device_type, key in _DISPATCH_KEYS.items():
            _put_before(_override, key, _demanded_functions(name, device_type))
    _demanded = name


def _demanded_functions(name: str, device_type: str) -> Functions:
    backend, reason = BACKENDS[name], BACKENDS[name].why_not(device_type)
    if reason is not None:
        return dict.fromkeys(_operators, _refusal(name, device_type, reason))
    return {} if backend.functions is None else backend.functions()


def _refusal(name: str, device_type: str, reason: str) -> Callable:
    def refuse(*args):
        raise RuntimeError(f"backend {name!r} is demanded and cannot serve {device_type!r} tensors: {reason}")

    return refuse


def _put_before(library: torch.library.Library, key: str, functions: Functions) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other operators may also be overridden", category=UserWarning)
        for operator, function in functions.items():
            library.impl(operator, function, key, allow_override=True)


def _check(name: str) -> None:
    reasons = available()
    if name not in reasons:
        raise ValueError(f"backend {name!r} is unknown; there are {', '.join(map(repr, reasons))}")
    if reasons[name] is not None:
        raise RuntimeError(f"backend {name!r} cannot serve: {reasons[name]}")


def _device_type(args: tuple) -> str:
    return next(arg.device.type for arg in args if isinstance(arg, torch.Tensor))
