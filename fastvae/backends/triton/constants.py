"""An operator's constants as its formulas take them: one tuple, `c`, with a field for each name of the schema."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import triton.language as tl

from ...ops import Operator

# Kernels are compiled for what a constant usually is; where that is None, what it would do is left out.
USUAL = {
    "x_scale": (1.0, tl.constexpr(1.0)),
    "free_bits": (0.0, None),
    "clamp_lo": (-math.inf, None),
    "clamp_hi": (math.inf, None),
    "share": (1.0, None),
}


def type_of(operator: Operator) -> type[tuple]:
    """`share` is what an element adds to a mean, `factor` that of the loss in one pass.

    `fields` tells their order: Triton's cache on disk knows fields by their places alone.
    """
    return namedtuple("Constants", (*operator.formula.constants, "share", "factor", "fields"))


def fill(constants: type[tuple], given: dict[str, Any], count: int, double: bool) -> tuple:
    """The constants of a call, for events of `count` elements.

    A number reaches a kernel as float32, so in float64 (`double`) it is compiled in. There it must stand where it is
    used: what a kernel gives a name is float32 too.
    """
    names = constants._fields  # type: ignore[attr-defined]
    share = 1 / max(count, 1) if given.get("averaged") else 1.0
    given = {**given, "share": share, "fields": " ".join(names)}
    return constants(*[_argument(name, given.get(name), double) for name in names])


def _argument(name: str, value: Any, double: bool) -> Any:
    usual, argument = USUAL.get(name, (None, None))
    if value == usual or value is None:
        return argument
    return value if isinstance(value, float) and not double else tl.constexpr(value)


def compiled_for(constants: tuple) -> tuple:
    """What tells apart constants that one kernel cannot serve."""
    return tuple([c.value if isinstance(c, tl.constexpr) else c if c is None else float for c in constants])
