"""From a case to calls that a clock can time: made once for all directions, verified before anything is timed."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from fastvae.measure.clock import Call
from fastvae.measure.reports.document import FLOOR

from . import gpus
from .cases import Case
from .probes import attempt, saved_bytes
from .variants import OWN_GRAPHS, variants
from .workload import WrongVariantError, as_tuple, verify, workload

QUICK_WITHOUT = ("max-autotune", "probabilities")  # variants that the quick suite leaves out
NO_BACKWARD_ALONE = OWN_GRAPHS  # each forward overwrites what the last one returned: no backward can be run by itself
RECORDING_CALLS = 3  # before verifying OWN_GRAPHS: their first calls record a graph, and its replays are to be right


class Experiment(Protocol):
    """What the bench asks of whatever it measures."""

    sets: int
    cold: bool

    def call(self, name: str, case: Any) -> Call:
        """The call to time. Verifies the variant the first time and raises WrongVariantError where it is wrong."""

    def role(self, name: str) -> str: ...
    def info(self, name: str, case: Any) -> dict[str, Any]: ...
    def derived(self, samples: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
        """Further fields that need the samples of several variants, by variant."""


def operator_names(case: Case, suite: str, device: str) -> list[str]:
    """The variants of a case, fastvae's first."""
    left_out = {*(QUICK_WITHOUT if suite == "quick" else ()), *(NO_BACKWARD_ALONE if _backward(case) else ())}
    choices = case.kind == "scaling" and suite != "quick"  # where formula and kernel cross
    return [
        name
        for name, variant in variants(case.operator, device, case.dtype).items()
        if name not in left_out and (choices or variant.choice is None)
    ]


def _backward(case: Case) -> bool:
    return case.direction == "backward"


@dataclass
class OperatorExperiment:
    """The operands and compiled functions that a case's directions share."""

    case: Case
    device: str
    compiler: str = "inductor"
    l2_bytes: int = 0
    _functions: dict[str, Any] = field(default_factory=dict)
    _wrong: dict[str, str] = field(default_factory=dict)
    _first_seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variants = variants(self.case.operator, self.device, self.case.dtype)
        self.workload = workload(self.case, self.device, self.l2_bytes)
        self.sets, self.cold = self.workload.rotation.sets, self.workload.rotation.cold

    def call(self, name: str, case: Case) -> Call:
        if name not in self._functions:
            self._verify(name)
        if name in self._wrong:
            raise WrongVariantError(self._wrong[name])
        return self._call(name, case.direction)

    def _call(self, name: str, direction: str) -> Call:
        return self.workload.call(self.variants[name], self._functions[name], direction)

    def _verify(self, name: str) -> None:
        self._functions[name] = self.variants[name].compiled(self.compiler)
        start = perf_counter()
        try:
            call = self._call(name, "forward+backward")
            call.once()
            self._first_seconds[name] = perf_counter() - start
            for _ in range(RECORDING_CALLS if self.variants[name].mode in OWN_GRAPHS else 0):
                call.once()
            verify(self.workload, call)
        except WrongVariantError as error:
            self._wrong[name] = str(error)
        except Exception as error:  # whatever a compiler or a driver raises, the other variants are measured
            first = next(iter(str(error).splitlines()), "")
            self._wrong[name] = f"cannot run: {type(error).__name__}: {first}"

    def role(self, name: str) -> str:
        return self.variants[name].role

    def info(self, name: str, case: Case) -> dict[str, Any]:
        function, variant, first = self._functions[name], self.variants[name], self.workload.inputs[0]
        with variant.context(self.device):
            saved = attempt(saved_bytes, lambda: as_tuple(function(*first.operands, **case.keywords)), first.operands)
        moved = self.workload.bytes(case.direction)
        first_call = self._first_seconds.get(name)
        return {**case.info(), "bytes": moved, "saved_bytes": saved, "first_call_seconds": first_call}

    def derived(self, samples: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
        return {}


# What bounds the small cases and the large ones, whatever computes them.

COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2 * 2**30}
SMALL = (128, 20)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


# One operation through the same calls as a case: a function of Python's, as fastvae's are, and one of torch's own.
ENGINE = {
    "autograd.Function": (Identity.apply, "an autograd.Function that does nothing"),
    "torch.neg": (torch.neg, "torch.neg"),
}


@dataclass(frozen=True)
class Bound:
    """A floor as a case with one variant, of the same name."""

    name: str

    @property
    def group(self) -> tuple:
        return ("floor", self.name)

    def __str__(self) -> str:
        return f"floor {self.name}"


BOUNDS = (Bound("copy"), *map(Bound, ENGINE))


@dataclass
class FloorExperiment:
    bound: Bound
    device: str
    sets: int = 2
    cold: bool = True

    def call(self, name: str, case: Bound) -> Call:
        return self._copy() if name == "copy" else self._engine(name)

    def _copy(self) -> Call:
        source = torch.rand(COPY_BYTES[self.device] // 4, device=self.device)
        target = torch.rand_like(source)
        return Call(lambda i, _: target.copy_(source))

    def _engine(self, name: str) -> Call:
        function, _ = ENGINE[name]
        x = torch.randn(SMALL, device=self.device, requires_grad=True)
        grads = [torch.randn(SMALL, device=self.device)]
        return Call(lambda i, _: torch.autograd.grad((function(x),), (x,), grads), captured=False)

    def role(self, name: str) -> str:
        return FLOOR

    def info(self, name: str, case: Bound) -> dict[str, Any]:
        common, copied = {"kind": "floor"}, COPY_BYTES[self.device]
        if name == "copy":
            what = f"copy of {copied // 2**20} MiB, bytes read + written"
            return {**common, "bytes": 2 * copied, "what": what, "peak_gb_per_s": _peak(self.device)}
        return {**common, "what": f"forward + backward of {ENGINE[name][1]}, fp32 {SMALL[0]}x{SMALL[1]}"}

    def derived(self, samples: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
        return {}


def _peak(device: str) -> int | None:
    """By the datasheet of the GPU at hand, where there is an entry."""
    return gpus.peak_gb_per_s(torch.cuda.get_device_name()) if device == "cuda" else None
