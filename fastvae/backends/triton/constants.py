"""An operator's constants as its formulas take them: one tuple, `c`, with a field for each name of the schema."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import triton.language as tl

from ...ops import Contract, Operator

# Kernels are compiled for what a constant usually is; where that is None, what it would do is left out.
USUAL = {
    "x_scale": (1.0, tl.constexpr(1.0)),
    "free_bits": (0.0, None),
    "clamp_lo": (-math.inf, None),
    "clamp_hi": (math.inf, None),
}


def filler(operator: Operator, contract: Contract) -> Callable[[tuple, int, bool], tuple]:
    """(arguments, elements of an event, whether in float64) -> the constants of a call.

    `mean_factor` is what an element adds to a mean, `factor` that of the loss in one pass. A number reaches a kernel as
    float32, so in float64 it is compiled in, and must stand where it is used: what has a name in a kernel is float32.
    """
    names = (*operator.formula.constants, *(["factor"] if "factor" in contract.names else []))
    constants = namedtuple("Constants", (*names, "mean_factor"))._make  # type: ignore[misc, attr-defined]
    fields = [(contract.names.index(name), *USUAL.get(name, (None, None))) for name in names]
    averaged = contract.names.index("averaged") if "averaged" in contract.names else None

    def fill(args: tuple, count: int, double: bool) -> tuple:
        mean_factor = None if averaged is None or not args[averaged] or count <= 1 else number(1 / count, double)
        return constants(
            [*[arg if args[i] == usual else number(args[i], double) for i, usual, arg in fields], mean_factor]
        )

    return fill


def number(value: Any, double: bool) -> Any:
    return value if type(value) is float and not double else tl.constexpr(value)


def compiled_for(constants: tuple) -> tuple:
    """What tells apart constants that one kernel cannot serve."""
    return tuple([c if c is None else float if type(c) is float else c.value for c in constants])
