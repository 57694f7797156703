"""p(x|z) of pixels, beside a Bernoulli's and a Gaussian's, element by element, and their gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...ops import pixels as ops
from .elementary import exp, exp_decay, log, polynomial, polynomial_in_double
from .launch import register
from .logistic import ends_of, log_mass, slope_log_scale, slope_residual
from .polynomials import LANGEVIN, LANGEVIN_IN_DOUBLE, LOG_SINHC, LOG_SINHC_IN_DOUBLE
from .scale import not_negative, standardized


@triton.jit
def laplace_log_prob(c, x, mean, scale):
    """-(|x - mean| / scale + log(2 scale))"""
    s = _read(c, scale)
    distance = standardized(tl.abs(x * c.x_scale - mean), s.inverse)
    # Infinitely far off, the distance outgrows the logarithm of a vanishing scale.
    return -(distance + tl.where(distance == float("inf"), 0.0, s.log) + 0.6931471805599453)


@triton.jit
def laplace_log_prob_gradient(c, grad, x, mean, scale):
    s, residual = _read(c, scale), x * c.x_scale - mean
    sign = tl.where(residual > 0.0, 1.0, tl.where(residual < 0.0, -1.0, residual))
    grad_mean = grad * standardized(sign, s.inverse)
    grad_scale = grad * ((standardized(tl.abs(residual), s.inverse) - 1.0) * s.d_log)
    return -grad_mean * c.x_scale, grad_mean, grad_scale


class _Scale(NamedTuple):
    inverse: Any
    log: Any
    d_log: Any  # of the logarithm in the parameter


@triton.jit
def _read(c, scale):
    if c.log_scale:
        return _Scale(exp(-scale), scale, tl.full(scale.shape, 1.0, scale.dtype))
    else:
        inverse = 1.0 / not_negative(scale)
        return _Scale(inverse, log(scale), inverse)


@triton.jit
def continuous_bernoulli_log_prob(c, x, logits):
    """x l - log((e^l - 1) / l), by the smaller side: log(y / (1 - e^-y)) - y (1 - x) with y = |l|, or x for 1 - x."""
    target, y = x * c.x_scale, tl.abs(logits)
    side = tl.where(logits > 0.0, 1.0 - target, target)
    # Near 0 that logarithm cancels.
    near = logits * (target - 0.5) - y * y * _log_sinhc(y * y)
    # A logit of infinity that agrees with its target has no such term; of one that does not, it outgrows the logarithm.
    linear = tl.where(side == 0.0, 0.0, y * side)
    far = tl.where(tl.abs(linear) == float("inf"), 0.0, log(y / (1.0 - exp_decay(-y)))) - linear
    return tl.where(y < 1.0, near, far)


@triton.jit
def continuous_bernoulli_log_prob_gradient(c, grad, x, logits):
    target, y = x * c.x_scale, tl.abs(logits)
    decay = exp_decay(-y)
    # The smaller of the mean and what it lacks of 1.
    smaller = tl.where(y < 1.0, 0.5 - y * _langevin(y * y), 1.0 / y - decay / (1.0 - decay))
    slope = tl.where(logits > 0.0, target - 1.0 + smaller, target - smaller)
    return grad * logits * c.x_scale, grad * slope


@triton.jit
def _log_sinhc(y2):
    if y2.dtype == tl.float64:
        return polynomial_in_double(y2, LOG_SINHC_IN_DOUBLE)
    else:
        return polynomial(y2, LOG_SINHC)


@triton.jit
def _langevin(y2):
    if y2.dtype == tl.float64:
        return polynomial_in_double(y2, LANGEVIN_IN_DOUBLE)
    else:
        return polynomial(y2, LANGEVIN)


@triton.jit
def discretized_logistic_log_prob(c, x, mean, log_scale):
    """log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)), h half a bin; the outermost bins are open."""
    return log_mass(_ends(c, x, mean, log_scale), log_scale)


@triton.jit
def discretized_logistic_log_prob_gradient(c, grad, x, mean, log_scale):
    ends = _ends(c, x, mean, log_scale)
    grad_mean = -grad * slope_residual(ends)
    return -grad_mean * c.x_scale, grad_mean, grad * slope_log_scale(ends)


@triton.jit
def _ends(c, x, mean, log_scale):
    target = x * c.x_scale
    return ends_of(c, target - mean, log_scale, target < c.half_bin, target > 1.0 - c.half_bin)


register(ops.LAPLACE_LOG_PROB, laplace_log_prob, laplace_log_prob_gradient)
register(ops.CONTINUOUS_BERNOULLI_LOG_PROB, continuous_bernoulli_log_prob, continuous_bernoulli_log_prob_gradient)
register(ops.DISCRETIZED_LOGISTIC_LOG_PROB, discretized_logistic_log_prob, discretized_logistic_log_prob_gradient)
