"""q(z|x): how the second parameter is read, samples, and KL divergences, element by element.

A formula takes the values of its inputs, its scalars, how the scale is read, and its flags; it returns its results.
Scalars begin with those of the reading: scale_eps and the two bounds of what it clamps. They stand to the right, and
get no name: in float64 they are constants, of which Triton makes float32 when it names them.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from ...ops import Operator
from ...ops import posterior as ops
from .elementary import exp, exponentials, log, sigmoid, softplus
from .launch import Formula, kernel
from .prepare import Constants

# --- how the second parameter is read ---
# Each returns log var, std, 1 / std, var - 1, var - 1 - log var, and d log var / d parameter, 0 where the clamp holds.
# What a formula does not use, the compiler drops.


@triton.jit
def _clamp(value, slope, scalars, CLAMPED: tl.constexpr):
    if CLAMPED:
        below, above = value < scalars[1], value > scalars[2]
        value = tl.where(below, scalars[1], tl.where(above, scalars[2], value))
        return value, tl.where(below | above, 0.0, slope)
    else:
        return value, slope


@triton.jit
def _of_log_std(s, d_log_var):
    # By e^2s - 1 - 2s = (e^s - 1)^2 + 2 (e^s - 1 - s): one exponential, and no term cancels another.
    std, expm1, expm1_minus_s = exponentials(s)
    return s + s, std, exp(-s), expm1 * (expm1 + 2.0), tl.fma(expm1, expm1, 2.0 * expm1_minus_s), d_log_var


@triton.jit
def _kl_of_var(var, log_var):
    # By the series near var = 1, directly elsewhere: the logarithm of nearly 1 cancels.
    _exp, _expm1, near = exponentials(log_var)
    return tl.where(tl.abs(log_var) < 0.5, near, var - 1.0 - log_var)


@triton.jit
def _of_std(std, d_log_var):
    log_var = 2.0 * log(std)
    return log_var, std, 1.0 / std, (std - 1.0) * (std + 1.0), _kl_of_var(std * std, log_var), d_log_var


@triton.jit
def log_var(p, scalars, CLAMPED: tl.constexpr):
    value, slope = _clamp(p, 1.0, scalars, CLAMPED)
    return _of_log_std(0.5 * value, slope)


@triton.jit
def log_std(p, scalars, CLAMPED: tl.constexpr):
    value, slope = _clamp(p, 2.0, scalars, CLAMPED)
    return _of_log_std(value, slope)


@triton.jit
def var(p, scalars, CLAMPED: tl.constexpr):
    value, slope = _clamp(p, 1.0 / p, scalars, CLAMPED)
    log_of, root = log(value), tl.sqrt(value)
    return log_of, root, 1.0 / root, value - 1.0, _kl_of_var(value, log_of), slope


@triton.jit
def std(p, scalars, CLAMPED: tl.constexpr):
    value, slope = _clamp(p, 2.0 / p, scalars, CLAMPED)
    return _of_std(value, slope)


@triton.jit
def std_of_softplus(p, scalars, CLAMPED: tl.constexpr):
    raw = softplus(p) + scalars[0]
    value, slope = _clamp(raw, 2.0 * sigmoid(p) / raw, scalars, CLAMPED)
    return _of_std(value, slope)


# --- formulas ---


@triton.jit
def rsample_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """z = mean + std * eps (Kingma & Welling 2014, eq. 9)."""
    mean, scale, eps = values
    _log_var, std_, _inv, _minus_1, _kl, _slope = READ(scale, scalars, FLAGS[0])
    return (tl.fma(std_, eps, mean),)


@triton.jit
def rsample_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """`grad` and `grad_eps` are sums over the samples of grad_z and of grad_z * eps."""
    _mean, scale, grad, grad_eps = values
    _log_var, std_, _inv, _minus_1, _kl, slope = READ(scale, scalars, FLAGS[0])
    # A closed clamp is a zero gradient whatever the noise, an infinite std included.
    return grad, tl.where(slope == 0.0, 0.0, grad_eps * (0.5 * std_ * slope))


@triton.jit
def _floored(kl, scalars, FLOORED: tl.constexpr):
    return tl.where(kl <= scalars[3], scalars[3], kl) if FLOORED else kl


@triton.jit
def _above_floor(grad, kl, scalars, FLOORED: tl.constexpr):
    return tl.where(kl <= scalars[3], 0.0, grad) if FLOORED else grad


@triton.jit
def kl_standard_normal_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """(mean^2 + var - 1 - log var) / 2 (Kingma & Welling 2014, appendix B)."""
    mean, scale = values
    _log_var, _std, _inv, _minus_1, kl, _slope = READ(scale, scalars, FLAGS[0])
    return (_floored(0.5 * tl.fma(mean, mean, kl), scalars, FLAGS[1]),)


@triton.jit
def kl_standard_normal_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad, mean, scale = values
    _log_var, _std, _inv, minus_1, kl, slope = READ(scale, scalars, FLAGS[0])
    kl = 0.5 * tl.fma(mean, mean, kl)
    grad_mean = _above_floor(grad * mean, kl, scalars, FLAGS[1])
    grad_scale = tl.where(slope == 0.0, 0.0, grad * (0.5 * minus_1 * slope))
    return grad_mean, _above_floor(grad_scale, kl, scalars, FLAGS[1])


@triton.jit
def _var_ratio(q, p, READ: tl.constexpr):
    """What a KL between two Gaussians takes of r = var_q / var_p: r - 1 and r - 1 - log r."""
    if READ == log_var or READ == log_std:
        _exp, expm1, expm1_minus_t = exponentials(q[0] - p[0])
        return expm1, expm1_minus_t
    else:
        # These have no logarithm to subtract that would not cancel.
        ratio = q[1] / p[1]
        in_range = (ratio > 1e-37) & (ratio < 1e37)
        log_ratio = tl.where(in_range, 2.0 * log(ratio), q[0] - p[0])
        return (ratio - 1.0) * (ratio + 1.0), _kl_of_var(ratio * ratio, log_ratio)


@triton.jit
def kl_normal_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """(((mean_q - mean_p) / std_p)^2 + r - 1 - log r) / 2 with r = var_q / var_p."""
    mean_q, scale_q, mean_p, scale_p = values
    q, p = READ(scale_q, scalars, FLAGS[0]), READ(scale_p, scalars, FLAGS[0])
    _minus_1, kl = _var_ratio(q, p, READ)
    distance = (mean_q - mean_p) * p[2]
    return (_floored(0.5 * tl.fma(distance, distance, kl), scalars, FLAGS[1]),)


@triton.jit
def kl_normal_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad, mean_q, scale_q, mean_p, scale_p = values
    q, p = READ(scale_q, scalars, FLAGS[0]), READ(scale_p, scalars, FLAGS[0])
    minus_1, kl = _var_ratio(q, p, READ)
    distance = (mean_q - mean_p) * p[2]
    kl = 0.5 * tl.fma(distance, distance, kl)
    mean = _above_floor(grad * (distance * p[2]), kl, scalars, FLAGS[1])
    scale_q = tl.where(q[5] == 0.0, 0.0, grad * (0.5 * minus_1 * q[5]))
    scale_p = tl.where(p[5] == 0.0, 0.0, grad * (-0.5 * tl.fma(distance, distance, minus_1) * p[5]))
    scale_q = _above_floor(scale_q, kl, scalars, FLAGS[1])
    return mean, scale_q, -mean, _above_floor(scale_p, kl, scalars, FLAGS[1])


@triton.jit
def rsample_kl_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    mean, scale, eps = values
    z = rsample_value((mean, scale, eps), scalars, READ, FLAGS)
    kl = kl_standard_normal_value((mean, scale), scalars, READ, FLAGS)
    return z[0], kl[0]


@triton.jit
def rsample_kl_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad_kl, mean, scale, grad, grad_eps = values
    of_z = rsample_gradient((mean, scale, grad, grad_eps), scalars, READ, FLAGS)
    of_kl = kl_standard_normal_gradient((grad_kl, mean, scale), scalars, READ, FLAGS)
    return of_z[0] + of_kl[0], of_z[1] + of_kl[1]


# --- operators ---

READINGS = {"log_var": log_var, "log_std": log_std, "var": var, "std": std, "softplus": std_of_softplus}


def read(constants: Constants):
    return READINGS[constants["scale_as"]]


def flags(constants: Constants) -> tuple[bool, bool]:
    """Clamped, floored."""
    clamped = (constants["clamp_lo"], constants["clamp_hi"]) != (-math.inf, math.inf)
    return clamped, constants.get("free_bits", 0.0) > 0


def scalars_of_scale(constants: Constants) -> tuple[float, float, float]:
    return constants["scale_eps"], constants["clamp_lo"], constants["clamp_hi"]


def _scalars(constants: Constants, count: int) -> tuple[float, ...]:
    return (*scalars_of_scale(constants), constants.get("free_bits", 0.0))


def _formula(function) -> Formula:
    return Formula(function, _scalars, flags, read)


def _kernels(operator: Operator, value, gradient):
    return (
        kernel(operator, operator.forward, _formula(value)),
        kernel(operator, operator.backward, _formula(gradient)),
    )


rsample, rsample_backward = _kernels(ops.RSAMPLE, rsample_value, rsample_gradient)
kl_standard_normal, kl_standard_normal_backward = _kernels(
    ops.KL_STANDARD_NORMAL, kl_standard_normal_value, kl_standard_normal_gradient
)
kl_normal, kl_normal_backward = _kernels(ops.KL_NORMAL, kl_normal_value, kl_normal_gradient)
rsample_kl, rsample_kl_backward = _kernels(ops.RSAMPLE_KL, rsample_kl_value, rsample_kl_gradient)
