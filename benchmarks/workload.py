"""A case made concrete: operands, calls in each direction, bytes that must move, and what is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.distributions import constraints

import fastvae
from fastvae.measure.clock import Call
from fastvae.measure.cuda_clock import Rotation, rotation
from fastvae.ops import OPERATORS, ROW_LIKELIHOODS, Likelihood

from . import posterior
from .cases import COUNTS, DTYPES, PACKED, PIXELS, WITHOUT_GRADIENTS, Case
from .variants import Function, Variant, specification

Tensors = tuple[Tensor, ...]

_DECLARED = OPERATORS | ROW_LIKELIHOODS

# Random everywhere: constant data is kinder to caches, to memory and to clocks than what anybody trains on. By the name
# of an operand, without the _q and _p of two posteriors; of others any real number will do.
DATA: dict[str, Callable[..., Tensor]] = {
    "logits": lambda shape, device: 2 * torch.randn(shape, device=device),
    "scale": lambda shape, device: 0.5 * torch.randn(shape, device=device) - 1,  # a log-variance
}
VALUES: dict[constraints.Constraint, Callable[..., Tensor]] = {
    constraints.unit_interval: torch.rand,
    constraints.real: torch.rand,
    # Of the counts of cells, and of what users have clicked, most are 0: nine of ten here.
    constraints.nonnegative_integer: lambda shape, device: torch.poisson(
        torch.exp(1.5 * torch.randn(shape, device=device) - 3)
    ),
}
# Of counts; the dispersion is the gene's.
OF_COUNTS: dict[str, Callable[..., Tensor]] = {
    "mean": lambda shape, device: 4 * torch.rand(shape, device=device) + 0.01,
    "inverse_dispersion": lambda shape, device: 5 * torch.rand(shape[-1:], device=device) + 0.1,
    "rate": lambda shape, device: torch.randn(shape, device=device),
    "zero_logits": lambda shape, device: torch.randn(shape, device=device),
}
# A scale itself, and parameters near the pixels.
OF_PIXELS: dict[str, Callable[..., Tensor]] = {
    "mean": torch.rand,
    "scale": lambda shape, device: 0.2 * torch.rand(shape, device=device) + 0.05,
    "log_scale": lambda shape, device: 0.25 * torch.randn(shape, device=device) - 1,
    "logits": lambda shape, device: 1 + 4 * torch.rand(shape, device=device),  # near 0 torch's own has few digits
}
BYTES = partial(torch.randint, 256, dtype=torch.uint8)

NOT_FOR_BACKWARD = {"rsample": ("mean",)}  # whose values no gradient depends on


def operands_of(operator: str) -> tuple[str, ...]:
    """The names of what is measured under this name; a loss has those of its likelihood."""
    if operator in PACKED:
        return ("moments",)
    return _DECLARED[operator.replace("_loss", "_log_prob")].operands


def samples(operator: str) -> bool:
    """Whether the first output is z."""
    return operator in PACKED or (operator in OPERATORS and OPERATORS[operator].samples)


# Norm of the error relative to the norm of the truth: a few roundings of an element. Wrong formulas miss by far more.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 4e-3}


@dataclass(frozen=True)
class Inputs:
    """One set: operands, all but x of which may require a gradient, and the gradients that arrive at the outputs."""

    operands: Tensors
    cotangents: Tensors

    @property
    def leaves(self) -> list[Tensor]:
        return [operand for operand in self.operands if operand.requires_grad]


@dataclass(frozen=True)
class Workload:
    """What the variants of a case work on, in as many sets as the clock rotates among."""

    case: Case
    device: str
    inputs: list[Inputs]
    rotation: Rotation

    def call(self, variant: Variant, function: Function, direction: str) -> Call:
        """`function`, the variant's, as it stands or compiled, in one direction."""
        inputs, keywords = self.inputs, self.case.keywords
        cotangents = _cotangents(self, variant, function)

        def forward(i: int, _: object = None) -> Tensors:
            return as_tuple(function(*inputs[i].operands, **keywords))

        def backward(i: int, outputs: Tensors) -> Tensors:
            leaves = inputs[i].leaves
            return torch.autograd.grad(outputs, leaves, cotangents[i]) if leaves else ()

        def both(i: int, _: object = None) -> tuple[Tensors, Tensors]:
            outputs = forward(i)
            return outputs, backward(i, outputs)

        runs: dict[str, Callable] = {"forward": forward, "backward": backward, "forward+backward": both}
        prepare = forward if direction == "backward" else None
        return Call(runs[direction], prepare, variant.capturable, partial(variant.context, self.device))

    def bytes(self, direction: str) -> int:
        """That must move: each input read once, each output written once."""
        first, case = self.inputs[0], self.case
        inputs, gradients = sum(map(_bytes, first.operands)), sum(map(_bytes, first.leaves))
        outputs = sum(map(_bytes, first.cotangents))
        unread = NOT_FOR_BACKWARD.get(case.operator, ())
        named = zip(operands_of(case.operator), first.operands, strict=True)
        read = sum(_bytes(t) for name, t in named if name not in unread)
        return {
            "forward": inputs + outputs,
            "backward": read + outputs + gradients,
            "forward+backward": inputs + 2 * outputs + gradients,
        }[direction]


def workload(case: Case, device: str, l2_bytes: int = 0) -> Workload:
    first = _inputs(case, device)
    moved = sum(map(_bytes, (*first.operands, *first.cotangents)))
    # The CPU, of which no cache is given, takes inputs as a training step leaves them.
    turns = rotation(moved, l2_bytes) if l2_bytes else Rotation(1, cold=False)
    return Workload(case, device, [first, *(_inputs(case, device) for _ in range(turns.sets - 1))], turns)


def _inputs(case: Case, device: str) -> Inputs:
    operands = tuple(_operand(name, case, device) for name in operands_of(case.operator))
    outputs = as_tuple(specification(case.operator)(*operands, **case.keywords))
    # A loss is what backward starts from: its gradient is 1.
    return Inputs(operands, tuple(torch.randn_like(o) if o.dim() else torch.ones_like(o) for o in outputs))


def _operand(name: str, case: Case, device: str) -> Tensor:
    if name == "x" and case.operator == "categorical_log_prob":
        return torch.randint(case.shape[-1], case.shape[:-1], device=device)
    if name == "x" and case.target == "uint8":
        return BYTES(size=case.shape, device=device)
    if name == "x" and case.target == "frequent":
        return torch.poisson(torch.full(case.shape, 4.0, device=device)).to(DTYPES[case.dtype])
    if name == "x" and case.target == "int32":
        return _data(name, case)(case.shape, device=device).int()
    operand = _moments(case, device) if name == "moments" else _data(name, case)(case.shape, device=device)
    if case.layout == "channels_last":
        operand = operand.contiguous(memory_format=torch.channels_last)
    return operand.to(DTYPES[case.dtype]).requires_grad_(name != "x" and case.operator not in WITHOUT_GRADIENTS)


def _moments(case: Case, device: str) -> Tensor:
    half = (case.shape[0], case.shape[1] // 2, *case.shape[2:])
    return torch.cat([_data(name, case)(half, device=device) for name in ("mean", "scale")], dim=1)


def _data(name: str, case: Case) -> Callable[..., Tensor]:
    likelihood = _DECLARED.get(case.operator.replace("_loss", "_log_prob"))
    if name == "x" and isinstance(likelihood, Likelihood):
        return VALUES[likelihood.support]
    if case.operator in PIXELS:
        return OF_PIXELS[name]
    if case.operator in COUNTS:
        return OF_COUNTS[name]
    return DATA.get(name.removesuffix("_q").removesuffix("_p"), torch.randn)


def _cotangents(workload: Workload, variant: Variant, function: Function) -> list[list[Tensor]]:
    """In the dtypes of what the variant returns. Its first call: here it is compiled."""
    first = workload.inputs[0]
    with variant.context(workload.device):
        dtypes = [output.dtype for output in as_tuple(function(*first.operands, **workload.case.keywords))]
    return [[t.to(dtype) for t, dtype in zip(each.cotangents, dtypes, strict=True)] for each in workload.inputs]


class WrongVariantError(Exception):
    """A variant that computes something else; the message says what deviates."""


def verify(workload: Workload, call: Call) -> None:
    """Compare a forward+backward call's results with the reference in float64, given the noise that it drew."""
    outputs, gradients = cast(tuple[Tensors, Tensors], call.once())
    case, results = workload.case, [t.detach() for t in (*outputs, *gradients)]
    noise = _noise(workload, results[0]) if samples(case.operator) else None
    if noise is not None:
        _check_normal(noise)
    for i, (result, truth) in enumerate(zip(results, _truth(workload, noise), strict=True)):
        what = f"output {i}" if i < len(outputs) else f"gradient {i - len(outputs)}"
        if result.shape != truth.shape:
            raise WrongVariantError(f"{what} has shape {list(result.shape)} instead of {list(truth.shape)}")
        error = float((result.double() - truth).norm() / truth.norm())
        # Written so that NaN fails too.
        if not error <= TOLERANCE[case.dtype]:
            raise WrongVariantError(f"{what} is off by {error:.1e} of its norm")


def _truth(workload: Workload, noise: Tensor | None) -> Tensors:
    """On the workload's own device: an image batch in float64 would take the CPU minutes."""
    case, first = workload.case, workload.inputs[0]
    operands = [_double(t).requires_grad_(t.requires_grad) for t in first.operands]
    given = {} if noise is None else {"eps": noise}
    with fastvae.backends.use("reference"):
        outputs = as_tuple(specification(case.operator)(*operands, **case.keywords, **given))
        leaves = [t for t in operands if t.requires_grad]
        cotangents = [t.double() for t in first.cotangents]
        gradients = torch.autograd.grad(outputs, leaves, cotangents) if leaves else ()
    return (*(output.detach() for output in outputs), *gradients)


def _double(t: Tensor) -> Tensor:
    return t.detach().double() if t.is_floating_point() else t


def _noise(workload: Workload, z: Tensor) -> Tensor:
    operands = [t.detach().double() for t in workload.inputs[0].operands]
    mean, log_var = operands if len(operands) == 2 else operands[0].chunk(2, dim=1)
    return (z.double() - mean) * torch.exp(-log_var.clamp(*posterior.CLAMP) / 2)


def _check_normal(noise: Tensor) -> None:
    """Mean and mean square within five standard errors of N(0, 1)'s; the rounding of z is far below."""
    n = noise.numel()
    mean, square = float(noise.mean()), float(noise.square().mean())
    if not (abs(mean) <= 5 / math.sqrt(n) and abs(square - 1) <= 5 * math.sqrt(2 / n)):
        raise WrongVariantError(f"noise of mean {mean:.3f} and mean square {square:.3f} is not N(0, 1)")


def as_tuple(outputs: Tensor | Tensors) -> Tensors:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()
