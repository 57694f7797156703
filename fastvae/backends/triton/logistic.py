"""A logistic distribution's mass on a bin: log(sigmoid(b) - sigmoid(a)), and its slopes.

Of the bin's ends a is the nearer to the mean, and b the farther, both turned so that the mean lies below the bin's
middle. Then the logarithm is log(1 - e^(a - b)) - softplus(a) - softplus(-b): none is positive, so nothing cancels. A
bin that is open to one side lacks the terms of its end there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import exp, exponentials, scaled, sigmoid, softplus, softplus_decay
from .scale import standardized
from .stirling import log1p_of

_MOST_LOG_SCALE = tl.constexpr(60.0)
_LEAST_INVERSE = tl.constexpr(8.75651076269652e-27)  # e^-60


class Ends(NamedTuple):
    inv_scale: Any
    below: Any  # whether the bin's middle is below the mean
    distance: Any
    a: Any
    b: Any
    width: Any  # b - a
    closed: Any
    has_near: Any
    has_far: Any


@triton.jit
def ends_of(c, residual, log_scale, lowest, highest):
    """`residual` is the bin's middle less the mean, `c.half_bin` half its width. The lowest bin is open below, the
    highest above."""
    inv_scale, below, closed = exp(-log_scale), residual < 0.0, (lowest | highest) == 0
    distance = tl.abs(residual)
    a = standardized(distance - c.half_bin, inv_scale)
    b = standardized(distance + c.half_bin, inv_scale)
    # A width that underflows: its logarithm is known all the same.
    width = 2.0 * c.half_bin * tl.where(inv_scale < _LEAST_INVERSE, _LEAST_INVERSE, inv_scale)
    outer = highest != below
    return Ends(inv_scale, below, distance, a, b, width, closed, closed | outer, closed | (outer == 0))


@triton.jit
def log_mass(ends, log_scale):
    e = exponentials(-ends.width)
    excess = tl.where(log_scale > _MOST_LOG_SCALE, _MOST_LOG_SCALE - log_scale, 0.0)
    within = log1p_of(-e.exp, -e.expm1).log + excess
    near, far = softplus(ends.a), softplus_decay(ends.b)
    return tl.where(ends.closed, within, 0.0) - tl.where(ends.has_near, near, 0.0) - tl.where(ends.has_far, far, 0.0)


@triton.jit
def slope_residual(ends):
    """d log_mass / d residual"""
    of_a = sigmoid(ends.a)
    outwards = of_a * sigmoid(ends.b) * exponentials(-2.0 * standardized(ends.distance, ends.inv_scale)).expm1
    slope = tl.where(ends.closed, outwards, tl.where(ends.has_near, -of_a, sigmoid(-ends.b)))
    return standardized(tl.where(ends.below, -slope, slope), ends.inv_scale)


@triton.jit
def slope_log_scale(ends):
    e = exponentials(-ends.width)
    within = scaled(-e.exp / e.expm1, ends.width)
    near, far = scaled(sigmoid(ends.a), ends.a), scaled(sigmoid(-ends.b), ends.b)
    return tl.where(ends.has_near, near, 0.0) - tl.where(ends.has_far, far, 0.0) - tl.where(ends.closed, within, 0.0)
