"""Stirling's series: what lgamma and digamma are beside their leading terms."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import LN2_HIGH, LN2_LOW, SQRT_HALF_BITS, polynomial, polynomial_in_double
from .polynomials import DIGAMMA, DIGAMMA_IN_DOUBLE, LOG, STIRLING, STIRLING_IN_DOUBLE


@triton.constexpr_function
def shift_of(dtype):
    """Arguments below this are shifted up by it, which a product makes good: the series start there."""
    return 4 if dtype == tl.float64 else 1


@triton.jit
def stirling(v):
    """lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2)"""
    if v.dtype == tl.float64:
        return v * polynomial_in_double(v * v, STIRLING_IN_DOUBLE)
    else:
        return v * polynomial(v * v, STIRLING)


@triton.jit
def digamma_rest(v):
    """log(1/v) - v/2 - digamma(1/v)"""
    if v.dtype == tl.float64:
        return v * v * polynomial_in_double(v * v, DIGAMMA_IN_DOUBLE)
    else:
        return v * v * polynomial(v * v, DIGAMMA)


class Log1p(NamedTuple):
    """log(1 + t) and t - log(1 + t), each to full relative accuracy."""

    log: Any
    rest: Any


@triton.jit
def log1p_of(t, q):
    """`q` is 1 + t, and made otherwise where that cancels."""
    if t.dtype == tl.float64:
        near = (q > 0.7) & (q < 1.4)
        small = tl.where(near, t, 0.0)
        r = small / (2.0 + small)  # log(1 + t) = 2 artanh r
        r2 = r * r
        series = tl.zeros_like(r2)
        for k in tl.static_range(12, 0, -1):  # 0.03^13 / 27 is below 2^-53 of a third
            series = r2 * (series + 1.0 / (2 * k + 1))
        rest = r * (small - 2.0 * series)
        log = tl.where(near, small - rest, tl.log(tl.where(near, 1.0, q)))
        return Log1p(log, tl.where(near, rest, t - log))
    else:
        bits = q.to(tl.int32, bitcast=True) - SQRT_HALF_BITS
        exponent = bits >> 23
        e = exponent.to(tl.float32)
        mantissa = ((bits & 0x007FFFFF) + SQRT_HALF_BITS).to(tl.float32, bitcast=True)
        f = tl.where(exponent == 0, t, mantissa - 1.0)
        bend = f * f * tl.fma(f, polynomial(f, LOG), -0.5)
        log = tl.fma(e, LN2_HIGH, tl.fma(e, LN2_LOW, bend) + f)
        log = tl.where(q == 0.0, float("-inf"), log)
        log = tl.where(q >= 0.0, log, float("nan"))
        log = tl.where(q > 3.40282347e38, q, log)
        return Log1p(log, tl.where(exponent == 0, -bend, t - log))
