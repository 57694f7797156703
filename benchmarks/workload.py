"""A case made concrete: operands, what computes on them, and whether that is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import fastvae

from . import baselines
from .cases import DTYPES, Case

Function = Callable[..., Tensor | tuple[Tensor, ...]]
Call = Callable[[], tuple[Tensor, ...]]

# Random everywhere: constant data is kinder to caches and to memory than what anybody trains on.
DATA: dict[str, Callable[[tuple[int, ...]], Tensor]] = {
    "x": torch.rand,
    "logits": lambda shape: 2 * torch.randn(shape),
    "mean": torch.randn,
    "log_var": lambda shape: 0.5 * torch.randn(shape) - 1,
}

OPERANDS = {
    "bernoulli_log_prob": ("x", "logits"),
    "gaussian_log_prob": ("x", "mean", "log_var"),
    "rsample_kl": ("mean", "log_var"),
    "kl_standard_normal": ("mean", "log_var"),
}

# Norm of the error relative to the norm of the truth: a few roundings of an element. Wrong formulas miss by far more.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}


def variants(operator: str, compiler: str = "inductor") -> dict[str, Function]:
    """What is compared, by name. Ratios are to the first."""
    naive = getattr(baselines, operator)
    return {
        "fastvae": getattr(fastvae, operator),
        "eager": naive,
        "compiled": torch.compile(naive, dynamic=False, backend=compiler),
    }


@dataclass(frozen=True)
class Workload:
    """Operands and the gradients that arrive at the outputs; all but x require a gradient."""

    case: Case
    operands: tuple[Tensor, ...]
    cotangents: tuple[Tensor, ...]

    def call(self, function: Function) -> Call:
        """Forward and backward of `function`, which leaves the gradients in the operands."""
        dtypes = [output.dtype for output in _as_tuple(function(*self.operands))]
        cotangents = [t.to(dtype) for t, dtype in zip(self.cotangents, dtypes, strict=True)]
        operands, leaves = self.operands, self.leaves

        def forward_backward() -> tuple[Tensor, ...]:
            for leaf in leaves:
                leaf.grad = None
            outputs = _as_tuple(function(*operands))
            torch.autograd.backward(outputs, cotangents)
            return outputs

        return forward_backward

    @property
    def leaves(self) -> list[Tensor]:
        return [operand for operand in self.operands if operand.requires_grad]


def workload(case: Case) -> Workload:
    names = OPERANDS[case.operator]
    operands = tuple(DATA[name](case.shape).to(DTYPES[case.dtype]).requires_grad_(name != "x") for name in names)
    outputs = _as_tuple(getattr(fastvae, case.operator)(*operands))
    return Workload(case, operands, tuple(torch.randn(output.shape) for output in outputs))


def verify(work: Workload, variant: str, call: Call) -> None:
    """Compare outputs and gradients with the reference backend in float64, given the noise that the variant drew.

    Raises AssertionError with the name of what deviates.
    """
    outputs = [output.detach() for output in call()]
    gradients = [_gradient(leaf) for leaf in work.leaves]
    noise = _noise(work, outputs[0]) if work.case.operator == "rsample_kl" else None
    if noise is not None:
        _check_normal(noise, f"{variant}, {work.case}")
    truths = _truth(work, noise)
    for i, (found, truth) in enumerate(zip([*outputs, *gradients], truths, strict=True)):
        what = f"output {i}" if i < len(outputs) else f"gradient {i - len(outputs)}"
        error = float((found.double() - truth).norm() / truth.norm())
        # Written so that NaN fails too.
        if not error <= TOLERANCE[work.case.dtype]:
            raise AssertionError(f"{variant}, {work.case}: {what} is off by {error:.1e} of its norm")


def _truth(work: Workload, noise: Tensor | None) -> list[Tensor]:
    operands = [t.detach().double().requires_grad_(t.requires_grad) for t in work.operands]
    with fastvae.backends.use("reference"):
        given = {} if noise is None else {"eps": noise}
        outputs = _as_tuple(getattr(fastvae, work.case.operator)(*operands, **given))
        torch.autograd.backward(outputs, [t.double() for t in work.cotangents])
    return [output.detach() for output in outputs] + [_gradient(t) for t in operands if t.requires_grad]


def _noise(work: Workload, z: Tensor) -> Tensor:
    mean, log_var = (t.detach().double() for t in work.operands)
    return (z.double() - mean) * torch.exp(-log_var / 2)


def _check_normal(noise: Tensor, what: str) -> None:
    """Mean and mean square within five standard errors of N(0, 1)'s; the rounding of z is far below."""
    n = noise.numel()
    mean, square = float(noise.mean()), float(noise.square().mean())
    if not (abs(mean) <= 5 / math.sqrt(n) and abs(square - 1) <= 5 * math.sqrt(2 / n)):
        raise AssertionError(f"{what}: noise of mean {mean:.3f} and mean square {square:.3f} is not N(0, 1)")


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
