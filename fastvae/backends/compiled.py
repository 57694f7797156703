"""What torch.compile is given of an operator, its formula or its kernel: the rule, as data, and how to override it.

Noise is a kernel's either way, and an operator that no kernel serves is its formula. `with compiled.to("kernel"):`, or
the environment variable FASTVAE_COMPILED, decides for all that is traced meanwhile; so does demanding a backend.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple, cast, get_args

import torch

from ..ops import Choice, LinearLikelihood, Operator, chunk_elements


class Largest(NamedTuple):
    """Up to how many elements the compiler is given the formula."""

    sample: float  # of operators that sample
    plain: float
    row_wise: float  # of those that a kernel computes together with their gradients
    long_winded: float  # of those that a compiler takes a minute over


# By type of device. Of the CPU, near where the two are equal: `python -m benchmarks --suite full -k scaling`. Of a GPU
# by counting launches and bytes, not measured: what has no noise is fused into one launch, and reads no more than a
# kernel does; with noise it takes a launch and a tensor more.
LARGEST_FORMULA = {
    "cpu": Largest(sample=2**15, plain=2**15, row_wise=2**15, long_winded=-1),
    "cuda": Largest(sample=-1, plain=math.inf, row_wise=math.inf, long_winded=math.inf),
}


@contextlib.contextmanager
def to(choice: Choice | None) -> Iterator[None]:
    """For all operators that torch.compile traces in a `with` block; None leaves it to the rule.

    Raises:
        ValueError: it is neither "formula" nor "kernel".
    """
    before = _demanded
    _demand(_checked(choice))
    try:
        yield
    finally:
        _demand(before)


def _demand(choice: Choice | None) -> None:
    global _demanded
    _demanded = choice
    sys.modules[__package__].settle_compiled()


def demanded() -> Choice | None:
    return _demanded


def choose(operator: Operator | LinearLikelihood, numel: int | torch.SymInt, device_type: str) -> Choice:
    if isinstance(operator, LinearLikelihood):  # whose formula has all parameters in memory
        return "formula" if _expected(numel) <= chunk_elements(torch.device(device_type), torch.float32) else "kernel"
    largest = LARGEST_FORMULA.get(device_type)
    if largest is None:
        return "formula"
    return "formula" if _expected(numel) <= _limit(largest, operator) else "kernel"


def _limit(largest: Largest, operator: Operator) -> float:
    if operator.long_winded:
        return largest.long_winded
    if operator.samples:
        return largest.sample
    return largest.row_wise if operator.row_wise else largest.plain


def _expected(numel: int | torch.SymInt) -> int:
    """Of a dynamic size the one that came first, asked without a guard: either choice is right."""
    return numel.node.hint if isinstance(numel, torch.SymInt) else numel


def _checked(choice: str | None) -> Choice | None:
    if choice not in (None, *get_args(Choice)):
        raise ValueError(f"torch.compile is given 'formula' or 'kernel' of an operator, got {choice!r}")
    return cast("Choice | None", choice)


_demanded = _checked(os.environ.get("FASTVAE_COMPILED") or None)
