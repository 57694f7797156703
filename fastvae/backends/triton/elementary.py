"""Elementary functions: branch-free polynomials in float32, the compiler's own in float64.

GPUs have faster exponentials and logarithms, whose error is absolute: near 0 and 1, where a KL cancels, they have no
digit right. NaN and infinity come through as IEEE 754 has them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from . import interpreting
from .polynomials import EXP, LOG, LOG1P

COMPILED = tl.constexpr(not interpreting())  # the interpreter knows no assembly
_LOG2_E = tl.constexpr(1.44269504)
LN2_HIGH = tl.constexpr(0.693145752)  # 16 bits: n * LN2_HIGH is exact
LN2_LOW = tl.constexpr(1.42860677e-06)
_ROUND_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
SQRT_HALF_BITS = tl.constexpr(0x3F3504F3)


@triton.constexpr_function
def degree(coefficients):
    return len(coefficients) - 1  # of a constant, which has no length in the interpreter


@triton.jit
def polynomial(x, COEFFICIENTS: tl.constexpr):
    """Horner's scheme, coefficients from the constant term up."""
    p = tl.full(x.shape, COEFFICIENTS[degree(COEFFICIENTS)], x.dtype)
    for i in tl.static_range(degree(COEFFICIENTS) - 1, -1, -1):
        p = tl.fma(p, x, COEFFICIENTS[i])
    return p


@triton.jit
def polynomial_in_double(x, COEFFICIENTS: tl.constexpr):
    """By products and sums: a fused one takes its constants in float32."""
    p = tl.zeros_like(x)
    for i in tl.static_range(degree(COEFFICIENTS), -1, -1):
        p = p * x + COEFFICIENTS[i]
    return p


@triton.jit
def _clamp(x, lo, hi):
    """NaN comes through, as it does not from minimum and maximum."""
    x = tl.where(x < lo, lo, x)
    return tl.where(x > hi, hi, x)


@triton.jit
def scaled(factor, x):
    """factor x, 0 for a factor of 0 though x be infinite; NaN comes through."""
    return tl.where((factor == 0.0) & (x == x), 0.0, factor * x)


@triton.jit
def _reduce(t):
    """t = n ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 = r + r^2 c to full relative accuracy: n, r, c, and 2^n / 2.

    Half of 2^n, since 2^128 is no float; it is 0 for n = -126, so that below 1.7e-38 an exponential is 0.
    """
    shifted = tl.fma(t, _LOG2_E, _ROUND_MAGIC)
    n = shifted - _ROUND_MAGIC
    r = tl.fma(n, -LN2_LOW, tl.fma(n, -LN2_HIGH, t))
    c = polynomial(r, EXP)
    half = ((shifted.to(tl.int32, bitcast=True) << 23) + (126 << 23)).to(tl.float32, bitcast=True)
    return n, r, c, half


class Exponentials(NamedTuple):
    """e^t, e^t - 1, and e^t - 1 - t, which keeps full relative accuracy near t = 0."""

    exp: Any
    expm1: Any
    expm1_minus_t: Any


@triton.jit
def exponentials(t):
    if t.dtype == tl.float64:
        e = tl.exp(t)
        # To float64's last digit for |t| <= 1/2; beyond, the difference loses 3 bits at most.
        series = tl.full(t.shape, 1.0, tl.float64)
        for i in tl.static_range(16, 2, -1):
            series = 1.0 + t / i * series
        near = tl.abs(t) < 0.5
        expm1_minus_t = tl.where(near, t * t / 2 * series, e - 1.0 - tl.where(t > 710.0, 710.0, t))
        return Exponentials(e, tl.where(near, expm1_minus_t + t, e - 1.0), expm1_minus_t)
    else:
        t = tl.where(t > 89.0, 89.0, t)  # beyond, e^t is infinite
        n, r, c, half = _reduce(tl.where(t < -87.0, -87.0, t))
        r2 = r * r
        expm1_r = tl.fma(r2, c, r)
        expm1 = 2.0 * tl.fma(half, expm1_r, half - 0.5)
        return Exponentials(tl.fma(expm1_r, 2.0, 2.0) * half, expm1, tl.where(n == 0.0, r2 * c, expm1 - t))


@triton.jit
def exp(t):
    if t.dtype == tl.float64:
        return tl.exp(t)
    else:
        _n, r, c, half = _reduce(_clamp(t, -87.0, 89.0))
        return tl.fma(tl.fma(r * r, c, r), 2.0, 2.0) * half


@triton.jit
def exp_decay(t):
    """e^t for t <= 0."""
    if t.dtype == tl.float64:
        return tl.exp(t)
    else:
        _n, r, c, half = _reduce(tl.where(t < -87.0, -87.0, t))
        return tl.fma(tl.fma(r * r, c, r), 2.0, 2.0) * half


@triton.jit
def log_normal(x):
    """log x for positive normal float32 x."""
    bits = x.to(tl.int32, bitcast=True) - SQRT_HALF_BITS  # the mantissa m lands in [sqrt(1/2), sqrt(2))
    e = (bits >> 23).to(tl.float32)
    f = ((bits & 0x007FFFFF) + SQRT_HALF_BITS).to(tl.float32, bitcast=True) - 1.0
    f2 = f * f
    p = polynomial(f, LOG)
    return tl.fma(e, LN2_HIGH, tl.fma(e, LN2_LOW, tl.fma(f2 * f, p, -0.5 * f2)) + f)


@triton.jit
def log(x):
    if x.dtype == tl.float64:
        return tl.log(x)
    else:
        subnormal = x < 1.17549435e-38
        y = log_normal(tl.where(subnormal, x * 8388608.0, x)) - tl.where(subnormal, 15.9423847, 0.0)
        y = tl.where(x > 3.40282347e38, x, y)
        y = tl.where(x == 0.0, float("-inf"), y)
        # Not a global: Triton compares those, and NaN differs from itself.
        return tl.where(x >= 0.0, y, float("nan"))


@triton.jit
def _log1p_unit(y):
    """log(1 + y) for y in [0, 1]."""
    if y.dtype == tl.float64:
        u = 1.0 + y  # Kahan: what rounding u loses divides out again
        return tl.where(u == 1.0, y, tl.log(u) * y / tl.where(u == 1.0, 1.0, u - 1.0))
    else:
        return y * polynomial(y, LOG1P)


@triton.jit
def softplus_decay(t):
    """log(1 + e^-|t|): what softplus adds to max(t, 0)."""
    return _log1p_unit(exp_decay(-tl.abs(t)))


@triton.jit
def softplus(t):
    return tl.where(t < 0.0, 0.0, t) + softplus_decay(t)


@triton.jit
def sigmoid_tail(t):
    """The smaller of sigmoid(t) and 1 - sigmoid(t)."""
    e = exp_decay(-tl.abs(t))
    return e / (1.0 + e)


@triton.jit
def sigmoid(t):
    e = exp_decay(-tl.abs(t))
    return tl.where(t < 0.0, e, 1.0) / (1.0 + e)
