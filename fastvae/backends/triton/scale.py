"""How the second parameter of a Gaussian is read: `scale_as`, and the clamp on the log-variance."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .elementary import exp, exponentials, log, sigmoid, softplus


class Scale(NamedTuple):
    """What a formula may want of the parameter; what it does not use, the compiler drops."""

    log_var: Any
    std: Any
    inv_std: Any
    var_minus_1: Any
    kl: Any  # var - 1 - log var
    d_log_var: Any  # d log var and d std / d parameter, 0 where the clamp holds
    d_std: Any


@triton.jit
def read_scale(c, parameter):
    if c.scale_as == "log_var":
        log_var, closed = _clamp(c, parameter)
        return _of_log_std(0.5 * log_var, tl.where(closed, 0.0, 1.0))
    elif c.scale_as == "log_std":
        log_std, closed = _clamp(c, parameter)
        return _of_log_std(log_std, tl.where(closed, 0.0, 2.0))
    elif c.scale_as == "var":
        var, closed = _clamp(c, parameter)
        var = not_negative(var)
        log_var, std = log(var), tl.sqrt(var)
        kl = kl_of_var(var, log_var)
        d_log_var, d_std = tl.where(closed, 0.0, 1.0 / var), tl.where(closed, 0.0, 0.5 / std)
        return Scale(log_var, std, 1.0 / std, var - 1.0, kl, d_log_var, d_std)
    elif c.scale_as == "std":
        std, closed = _clamp(c, parameter)
        std = not_negative(std)
        d_std = tl.where(std >= 0.0, 1.0, std)
        return _of_std(std, log(std), tl.where(closed, 0.0, 2.0 / std), tl.where(closed, 0.0, d_std))
    else:  # softplus
        raw, slope = softplus(parameter) + c.scale_eps, sigmoid(parameter)
        std, closed = _clamp(c, raw)
        # Where softplus(p) = e^p has underflowed its logarithm is p.
        vanished = std == 0.0
        log_std = tl.where(vanished, parameter, log(std))
        d_log_var = tl.where(vanished, 2.0, 2.0 * slope / std)
        return _of_std(std, log_std, tl.where(closed, 0.0, d_log_var), tl.where(closed, 0.0, slope))


@triton.jit
def _clamp(c, value):
    """The value within the clamp, and where that holds it."""
    closed = value != value
    closed = closed & False
    if c.clamp_lo is not None:
        closed = closed | (value < c.clamp_lo)
        value = tl.where(value < c.clamp_lo, c.clamp_lo, value)
    if c.clamp_hi is not None:
        closed = closed | (value > c.clamp_hi)
        value = tl.where(value > c.clamp_hi, c.clamp_hi, value)
    return value, closed


@triton.jit
def not_negative(value):
    """NaN below 0, and -0 is 0."""
    return tl.where(value < 0.0, float("nan"), tl.abs(value))


@triton.jit
def _of_log_std(s, d_log_var):
    # By e^2s - 1 - 2s = (e^s - 1)^2 + 2 (e^s - 1 - s): one exponential, and no term cancels another.
    e = exponentials(s)
    kl = tl.fma(e.expm1, e.expm1, 2.0 * e.expm1_minus_t)
    # A closed clamp is a zero gradient whatever the noise, an infinite std included.
    d_std = tl.where(d_log_var == 0.0, 0.0, 0.5 * d_log_var * e.exp)
    return Scale(s + s, e.exp, exp(-s), e.expm1 * (e.expm1 + 2.0), kl, d_log_var, d_std)


@triton.jit
def _of_std(std, log_std, d_log_var, d_std):
    log_var = 2.0 * log_std
    kl = kl_of_var(std * std, log_var)
    return Scale(log_var, std, 1.0 / std, (std - 1.0) * (std + 1.0), kl, d_log_var, d_std)


@triton.jit
def kl_of_var(var, log_var):
    """By the series near var = 1, directly elsewhere: the logarithm of nearly 1 cancels."""
    near = exponentials(log_var).expm1_minus_t
    # An infinite variance outgrows its logarithm; that of a finite one is below 1e4.
    return tl.where(tl.abs(log_var) < 0.5, near, var - 1.0 - tl.where(log_var > 1e4, 1e4, log_var))


@triton.jit
def kl_slope(c, q, ratio_minus_1, inv_std_p):
    """d ((ratio - 1 - log ratio) / 2) / d parameter of q, ratio = var_q / var_p."""
    slope = tl.where(q.d_log_var == 0.0, 0.0, 0.5 * ratio_minus_1 * q.d_log_var)
    if c.scale_as == "var":
        return tl.where(q.std == float("inf"), 0.5 * (inv_std_p * inv_std_p), slope)
    elif c.scale_as == "std" or c.scale_as == "softplus":
        return tl.where(q.std == float("inf"), float("inf"), slope)
    else:
        return slope


@triton.jit
def standardized(distance, inv_std):
    """distance / std: 0 where there is none, though std be 0."""
    return tl.where((distance == 0.0) & (inv_std > 0.0), 0.0, distance * inv_std)
