"""log p(x|z): log-likelihoods element by element."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from ...ops import likelihood as ops
from . import posterior
from .device import on_device
from .elementary import sigmoid_tail, softplus_decay
from .launch import Formula, kernel
from .prepare import Constants


@triton.jit
def bernoulli_log_prob_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """x l - softplus(l): cross-entropy in logits."""
    x, logits = values
    target = x * scalars[0] if FLAGS[0] else x
    # max(l, 0) - l x as one product: no difference of two large terms.
    linear = logits * tl.where(logits > 0.0, 1.0 - target, -target)
    return (-(linear + softplus_decay(logits)),)


@triton.jit
def bernoulli_log_prob_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad, x, logits = values
    target, tail = x * scalars[0] if FLAGS[0] else x, sigmoid_tail(logits)
    # x - sigmoid(l) by the tail: what is left at a saturated pixel is not rounded off.
    slope = tl.where(logits > 0.0, (target - 1.0) + tail, target - tail)
    return grad * (logits * scalars[0]), grad * slope


@triton.jit
def gaussian_log_prob_value(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    """-((x - mean)^2 / (2 var) + log std + log(2 pi) / 2), scaled before it is squared."""
    x, mean, scale = values
    log_var, _std, inv_std, _minus_1, _kl, _slope = READ(scale, scalars, FLAGS[0])
    residual = ((x * scalars[3] if FLAGS[1] else x) - mean) * inv_std
    return (-(0.5 * tl.fma(residual, residual, log_var) + scalars[4]),)


@triton.jit
def gaussian_log_prob_gradient(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    grad, x, mean, scale = values
    _log_var, _std, inv_std, _minus_1, _kl, d_log_var = READ(scale, scalars, FLAGS[0])
    residual = ((x * scalars[3] if FLAGS[1] else x) - mean) * inv_std
    grad_mean = grad * (residual * inv_std)
    slope = 0.5 * ((residual - 1.0) * (residual + 1.0))
    return -grad_mean * scalars[3], grad_mean, tl.where(d_log_var == 0.0, 0.0, grad * (slope * d_log_var))


# --- losses in one pass: the value, and the gradients of its negative, multiplied by the last scalar ---


@triton.jit
def _minus(number, like):
    return tl.full([1, 1], 0.0, like.dtype) - number


@triton.jit
def bernoulli_log_prob_one_pass_results(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    x, logits = values
    log_prob = bernoulli_log_prob_value(values, scalars, READ, FLAGS)
    return (log_prob[0] * scalars[1],) + bernoulli_log_prob_gradient(
        (_minus(scalars[1], logits), x, logits), scalars, READ, FLAGS
    )


@triton.jit
def gaussian_log_prob_one_pass_results(values, scalars, READ: tl.constexpr, FLAGS: tl.constexpr):
    x, mean, scale = values
    log_prob = gaussian_log_prob_value(values, scalars, READ, FLAGS)
    return (log_prob[0] * scalars[5],) + gaussian_log_prob_gradient(
        (_minus(scalars[5], mean), x, mean, scale), scalars, READ, FLAGS
    )


@triton.jit
def _rescale_kernel(grad, upstream, count, BLOCK: tl.constexpr):
    factor = -tl.load(upstream)
    if factor != 1.0:
        i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(grad + i, i < count)
        tl.store(grad + i, (value * factor).to(value.dtype), i < count)


# --- operators ---


def _bernoulli_scalars(constants: Constants, count: int) -> tuple[float, ...]:
    return (constants["x_scale"], *_share(constants))


def _share(constants: Constants) -> tuple[float, ...]:
    return (constants["factor"],) if "factor" in constants else ()


def _gaussian_flags(constants: Constants) -> tuple[bool, bool]:
    """Clamped, scaled."""
    return posterior.flags(constants)[0], constants["x_scale"] != 1.0


def _gaussian_scalars(constants: Constants, count: int) -> tuple[float, ...]:
    log_normalizer = math.log(2 * math.pi) / 2 if constants["normalized"] else 0.0
    return (*posterior.scalars_of_scale(constants), constants["x_scale"], log_normalizer, *_share(constants))


def _bernoulli_flags(constants: Constants) -> tuple[bool]:
    """Scaled."""
    return (constants["x_scale"] != 1.0,)


def _bernoulli(function) -> Formula:
    return Formula(function, _bernoulli_scalars, _bernoulli_flags)


def _gaussian(function) -> Formula:
    return Formula(function, _gaussian_scalars, _gaussian_flags, posterior.read)


bernoulli_log_prob = kernel(
    ops.BERNOULLI_LOG_PROB, ops.BERNOULLI_LOG_PROB.forward, _bernoulli(bernoulli_log_prob_value)
)
bernoulli_log_prob_backward = kernel(
    ops.BERNOULLI_LOG_PROB, ops.BERNOULLI_LOG_PROB.backward, _bernoulli(bernoulli_log_prob_gradient)
)
gaussian_log_prob = kernel(ops.GAUSSIAN_LOG_PROB, ops.GAUSSIAN_LOG_PROB.forward, _gaussian(gaussian_log_prob_value))
gaussian_log_prob_backward = kernel(
    ops.GAUSSIAN_LOG_PROB, ops.GAUSSIAN_LOG_PROB.backward, _gaussian(gaussian_log_prob_gradient)
)
bernoulli_log_prob_one_pass = kernel(
    ops.BERNOULLI_LOG_PROB, ops.BERNOULLI_LOG_PROB.one_pass, _bernoulli(bernoulli_log_prob_one_pass_results)
)
gaussian_log_prob_one_pass = kernel(
    ops.GAUSSIAN_LOG_PROB, ops.GAUSSIAN_LOG_PROB.one_pass, _gaussian(gaussian_log_prob_one_pass_results)
)


def rescale_(grad: Tensor, upstream: Tensor) -> None:
    count, block = grad.numel(), 4096
    if count:
        with on_device(grad.device):
            _rescale_kernel[(triton.cdiv(count, block),)](grad, upstream, count, BLOCK=block)
