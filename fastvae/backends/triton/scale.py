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
    d_log_var: Any  # d log var / d parameter, 0 where the clamp holds


@triton.jit
def read_scale(c, parameter):
    if c.scale_as == "log_var":
        log_var, slope = _clamp(c, parameter, 1.0)
        return _of_log_std(0.5 * log_var, slope)
    elif c.scale_as == "log_std":
        log_std, slope = _clamp(c, parameter, 2.0)
        return _of_log_std(log_std, slope)
    elif c.scale_as == "var":
        var, slope = _clamp(c, parameter, 1.0 / parameter)
        log_var, std = log(var), tl.sqrt(var)
        return Scale(log_var, std, 1.0 / std, var - 1.0, kl_of_var(var, log_var), slope)
    elif c.scale_as == "std":
        std, slope = _clamp(c, parameter, 2.0 / parameter)
        return _of_std(std, slope)
    else:  # softplus
        raw = softplus(parameter) + c.scale_eps
        std, slope = _clamp(c, raw, 2.0 * sigmoid(parameter) / raw)
        return _of_std(std, slope)


@triton.jit
def _clamp(c, value, slope):
    if c.clamp_lo is not None:
        slope = tl.where(value < c.clamp_lo, 0.0, slope)
        value = tl.where(value < c.clamp_lo, c.clamp_lo, value)
    if c.clamp_hi is not None:
        slope = tl.where(value > c.clamp_hi, 0.0, slope)
        value = tl.where(value > c.clamp_hi, c.clamp_hi, value)
    return value, slope


@triton.jit
def _of_log_std(s, d_log_var):
    # By e^2s - 1 - 2s = (e^s - 1)^2 + 2 (e^s - 1 - s): one exponential, and no term cancels another.
    e = exponentials(s)
    kl = tl.fma(e.expm1, e.expm1, 2.0 * e.expm1_minus_t)
    return Scale(s + s, e.exp, exp(-s), e.expm1 * (e.expm1 + 2.0), kl, d_log_var)


@triton.jit
def _of_std(std, d_log_var):
    log_var = 2.0 * log(std)
    return Scale(log_var, std, 1.0 / std, (std - 1.0) * (std + 1.0), kl_of_var(std * std, log_var), d_log_var)


@triton.jit
def kl_of_var(var, log_var):
    """By the series near var = 1, directly elsewhere: the logarithm of nearly 1 cancels."""
    near = exponentials(log_var).expm1_minus_t
    return tl.where(tl.abs(log_var) < 0.5, near, var - 1.0 - log_var)
