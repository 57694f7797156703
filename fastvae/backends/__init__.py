"""Who computes an operator: one backend serves each type of device, chosen once, overridable.

`native` is the compiled library of a device, `triton` compiles its kernels for the GPU at hand when they are first
called, `reference` is plain torch and serves any device and any operator that nothing faster serves, saying so. Naming
a backend, by `use` or by the environment variable FASTVAE_BACKEND, demands it: where it cannot serve, that is an error,
never a quiet change of backend. What torch.compile is given instead of a kernel: `fastvae.backends.compiled`.

The CPU's library is loaded at import, a GPU's at its first tensor: whether it serves, only the GPU can tell.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import torch

from ..ops import Choice, Composed, Contract, LinearLikelihood, Operator, choose_by
from . import compiled, native, reference

Function = Callable[..., Any]
Functions = Mapping[str, Function]


class Backend(NamedTuple):
    """What the registry asks of a backend."""

    why_not: Callable[[str], str | None]  # by type of device: None where it can serve, else the reason
    functions: Callable[[Mapping[str, Contract]], Functions] | None  # None: loading it has registered compiled kernels
    why_absent: Callable[[str], str | None] | None = None  # of `why_not` what no device need be asked; None: all of it


def _triton_why_not(device_type: str) -> str | None:
    # Imported late: nobody needs Triton to import fastvae.
    from . import triton

    return triton.why_not(device_type)


def _triton_functions(contracts: Mapping[str, Contract]) -> Functions:
    from . import triton

    return triton.functions(contracts)


# In the order in which they are preferred. Of a GPU's two by prediction, until one is measured: `make codegen` counts
# up to a seventh more instructions an element in native kernels than in Triton's, which few operators are bound by, and
# Triton's launches go through more Python.
BACKENDS = {
    "native": Backend(native.why_not, None, native.why_absent),
    "triton": Backend(_triton_why_not, _triton_functions),
    "reference": Backend(lambda device_type: None, reference.functions),
}

_DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}  # where a faster backend may stand before the reference
_demanded: str | None = None
_contracts: dict[str, Contract] = {}
_unsettled = set(_DISPATCH_KEYS)  # types of device whose library is not loaded yet
_settling = threading.RLock()
_undemanded = torch.library.Library("fastvae", "IMPL")
_override: torch.library.Library | None = None


def available() -> dict[str, str | None]:
    """Each backend, with None where it can serve some device here and the reason where it cannot."""
    for device_type in _DISPATCH_KEYS:
        settle(device_type)
    return {name: _why_nowhere(backend) for name, backend in BACKENDS.items()}


def serving(device_type: str) -> str:
    """The name of the backend that computes on tensors of this type of device ("cpu", "cuda", ...)."""
    if _demanded is None:
        settle(device_type)
    return _demanded or _preferred(device_type)


def has_kernel(name: str, operator: str, device_type: str) -> bool:
    """Whether the backend has a kernel of its own for the operator on this type of device."""
    settle(device_type)
    return BACKENDS[name].why_not(device_type) is None and operator in _kernels(name, device_type)


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Demand a backend for the duration of a `with` block, in all threads.

    Raises:
        ValueError: there is no backend of that name.
        RuntimeError: the backend cannot serve here; the message says why and what would help. Of a backend that serves
            one type of device and not another, the first tensor of the other raises it.
        NotImplementedError: raised by the call of an operator for which the backend has no kernel.
    """
    before = _demanded
    _demand(name)
    try:
        yield
    finally:
        _place(before)


def register(contracts: Mapping[str, Contract]) -> None:
    """Give each operator its kernels. Called when operators have been declared; again for further ones."""
    further = {name: contract for name, contract in contracts.items() if name not in _contracts}
    _contracts.update(further)
    for operator in further:
        _undemanded.impl(operator, _settled_at_call(operator), "CompositeExplicitAutograd")
    settle("cpu")
    _demand(_demanded or os.environ.get("FASTVAE_BACKEND") or None)


def settle(device_type: str) -> None:
    """Load the device's library, once. One that cannot serve has the next backend put before its kernels."""
    with _settling:
        if device_type not in _unsettled:
            return
        reason = native.load(device_type)
        _unsettled.remove(device_type)
        if reason is not None:
            stand_ins = {operator: _settled_at_call(operator) for operator in native.operators(device_type)}
            _put_before(_undemanded, _DISPATCH_KEYS[device_type], stand_ins)
        _place(_demanded)  # before what has just been registered


def _choose(operator: Operator | LinearLikelihood, numel: int | torch.SymInt, device_type: str) -> Choice:
    """What torch.compile is given."""
    if _demanded is not None or compiled.demanded() is not None:
        return compiled.demanded() or "kernel"
    name = serving(device_type)
    if name == "reference" or not has_kernel(name, operator.kernel, device_type):
        return "formula"
    return compiled.choose(operator, numel, device_type)


def _why_nowhere(backend: Backend) -> str | None:
    reasons = [_why_not(backend, device_type) for device_type in _DISPATCH_KEYS]
    return None if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))


def _why_not(backend: Backend, device_type: str) -> str | None:
    """As far as it is known: an import asks no GPU."""
    known = backend.why_absent if device_type in _unsettled else None
    return (known or backend.why_not)(device_type)


def _preferred(device_type: str) -> str:
    return next(name for name, backend in BACKENDS.items() if _why_not(backend, device_type) is None)


def _kernels(name: str, device_type: str) -> frozenset[str] | Functions:
    functions = BACKENDS[name].functions
    return native.operators(device_type) if functions is None else functions(_contracts)


def _settled_at_call(operator: str) -> Function:
    def call(*args: Any) -> Any:
        device_type = _device_type(args)
        if device_type in _unsettled:
            settle(device_type)
            return _contracts[operator].call(*args)  # anew: its kernel may stand there now
        return _function_for(operator, device_type)(*args)

    return call


@functools.cache
def _function_for(operator: str, device_type: str) -> Function:
    """Of the first backend that has one, where no compiled kernel stands before it."""
    name = next(name for name in BACKENDS if BACKENDS[name].functions and has_kernel(name, operator, device_type))
    if name == "reference" and not isinstance(_contracts[operator], Composed):
        _say_that_plain_torch_computes(operator, device_type)
    functions = BACKENDS[name].functions
    assert functions is not None  # chosen for it
    return functions(_contracts)[operator]


@functools.cache
def _warned(message: str) -> None:
    warnings.warn(message, stacklevel=6)


def _say_that_plain_torch_computes(operator: str, device_type: str) -> None:
    """Once for a device that nothing else serves, once for an operator that nothing else has a kernel for."""
    preferred = _preferred(device_type)
    if preferred == "reference":
        others = [
            f"{other}: {backend.why_not(device_type)}" for other, backend in BACKENDS.items() if other != preferred
        ]
        what = f"plain torch computes on {device_type!r} tensors ({'; '.join(others)})"
    else:
        public = operator.removesuffix("_backward").removesuffix("_one_pass")
        what = f"plain torch computes {public} on {device_type!r} tensors: {preferred} has no kernel for it yet"
    _warned(f"fastvae: {what}; results are right, speed is not")


def _demand(name: str | None) -> None:
    """Put `name` before what would serve else; None takes that back."""
    if name is not None:
        _check(name)
    _place(name)


def _place(name: str | None) -> None:
    global _demanded, _override
    if _override is not None:
        _override._destroy()
        _override = None
    if name is not None:
        _override = torch.library.Library("fastvae", "IMPL")
        for device_type, key in _DISPATCH_KEYS.items():
            _put_before(_override, key, _demanded_functions(name, device_type))
    _demanded = name
    settle_compiled()


def settle_compiled() -> None:
    """Tell the operators what torch.compile is given from now on; a graph made before is made anew."""
    serve = [_demanded or _preferred(device_type) for device_type in _DISPATCH_KEYS]
    choose_by(_choose, f"{_demanded}:{compiled.demanded()}:{serve}")


def _demanded_functions(name: str, device_type: str) -> Functions:
    reason = _why_not(BACKENDS[name], device_type)
    if reason is not None:
        message = f"backend {name!r} is demanded and cannot serve {device_type!r} tensors: {reason}"
        return dict.fromkeys(_contracts, _refusal(RuntimeError, message))
    if BACKENDS[name].functions is None and device_type in _unsettled:
        return {}  # its first tensor settles it
    kernels = _kernels(name, device_type)
    missing = {
        operator: _without_kernel(name, contract)
        for operator, contract in _contracts.items()
        if operator not in kernels
    }
    return missing | (dict(kernels) if isinstance(kernels, Mapping) else {})


def _without_kernel(name: str, contract: Contract) -> Function:
    if isinstance(contract, Composed):
        return contract.formula  # what it calls is demanded
    return _refusal(NotImplementedError, f"backend {name!r} is demanded and has no kernel for {contract.name}")


def _refusal(error: type[Exception], message: str) -> Function:
    def refuse(*args: Any) -> NoReturn:
        raise error(message)

    return refuse


def _put_before(library: torch.library.Library, key: str, functions: Functions) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*other operators may also be overridden", category=UserWarning)
        for operator, function in functions.items():
            library.impl(operator, function, key, allow_override=True)


def _check(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r} is unknown; there are {', '.join(map(repr, BACKENDS))}")
    reason = _why_nowhere(BACKENDS[name])
    if reason is not None:
        raise RuntimeError(f"backend {name!r} cannot serve: {reason}")


def _device_type(args: tuple[Any, ...]) -> str:
    return next(arg.device.type for arg in args if isinstance(arg, torch.Tensor))
