"""p(x|z): log-likelihoods, element by element, and their gradients; x is read as x * x_scale."""

from __future__ import annotations

import triton
import triton.language as tl

from ...ops import likelihood as ops
from .elementary import sigmoid_tail, softplus_decay
from .launch import register
from .scale import read_scale, standardized

_HALF_LOG_2_PI = tl.constexpr(0.9189385332046727)


@triton.jit
def bernoulli_log_prob(c, x, logits):
    """x l - softplus(l): cross-entropy in logits."""
    target = x * c.x_scale
    # max(l, 0) - l x as one product: no difference of two large terms.
    side = tl.where(logits > 0.0, 1.0 - target, -target)
    linear = tl.where(side == 0.0, 0.0, logits * side)  # 0 for a logit of infinity that agrees with its target
    return -(linear + softplus_decay(logits))


@triton.jit
def bernoulli_log_prob_gradient(c, grad, x, logits):
    target, tail = x * c.x_scale, sigmoid_tail(logits)
    # x - sigmoid(l) by the tail: what is left at a saturated pixel is not rounded off.
    slope = tl.where(logits > 0.0, (target - 1.0) + tail, target - tail)
    return grad * (logits * c.x_scale), grad * slope


@triton.jit
def gaussian_log_prob(c, x, mean, scale):
    """-((x - mean)^2 / (2 var) + log std + log(2 pi) / 2), scaled before it is squared."""
    s = read_scale(c, scale)
    u = standardized(x * c.x_scale - mean, s.inv_std)
    # Infinitely far off, the square outgrows the logarithm of a vanishing variance.
    terms = tl.where(tl.abs(u) == float("inf"), float("inf"), tl.fma(u, u, s.log_var))
    return -(0.5 * terms + (_HALF_LOG_2_PI if c.normalized else 0.0))


@triton.jit
def gaussian_log_prob_gradient(c, grad, x, mean, scale):
    s = read_scale(c, scale)
    u = standardized(x * c.x_scale - mean, s.inv_std)
    grad_mean = grad * standardized(u, s.inv_std)
    slope = 0.5 * ((u - 1.0) * (u + 1.0))
    return -grad_mean * c.x_scale, grad_mean, tl.where(s.d_log_var == 0.0, 0.0, grad * (slope * s.d_log_var))


register(ops.BERNOULLI_LOG_PROB, bernoulli_log_prob, bernoulli_log_prob_gradient)
register(ops.GAUSSIAN_LOG_PROB, gaussian_log_prob, gaussian_log_prob_gradient)
