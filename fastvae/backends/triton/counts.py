"""p(x|z) of counts, element by element, and their gradients: deviances and the rests of Stirling's series."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ...ops import counts as ops
from .elementary import exp, exponentials, log, scaled, sigmoid, softplus, softplus_decay
from .launch import register
from .scale import not_negative
from .stirling import digamma_rest, log1p_of, shift_of, stirling

_HALF_LOG_2_PI = tl.constexpr(0.9189385332046727)


@triton.jit
def poisson_log_prob(c, x, rate):
    """x log(rate) - rate - log x!"""
    mean, k = _mean(c, rate), _count(x)
    log_value, t, q = log(k.value), (mean - k.value) * k.inverse, mean * k.inverse
    rest = log1p_of(t, q).rest
    if c.log_rate:
        rest = tl.where(q < 1e-30, t - _log_ratio(c, rate, k), rest)
    ahead = log(_ahead(x, k)) + 0.5 * log_value - _HALF_LOG_2_PI - stirling(k.inverse)
    return tl.where((x == 0.0) | (mean == float("inf")), -mean, ahead - (k.by * t + x * rest))


@triton.jit
def poisson_log_prob_gradient(c, grad, x, rate):
    mean, k = _mean(c, rate), _count(x)
    if c.log_rate:
        slope = x - mean
    else:
        slope = tl.where(x == 0.0, -1.0, (x - mean) / mean)
    return grad * (_log_ratio(c, rate, k) - _digamma_after(x, k)), grad * slope


@triton.jit
def _mean(c, rate):
    if c.log_rate:
        return exp(rate)
    else:
        return not_negative(rate)


@triton.jit
def _log_ratio(c, rate, k):
    """log(rate / value); of a rate that has underflowed the logarithm is known all the same."""
    if c.log_rate:
        return rate - log(k.value)
    else:
        return log(rate * k.inverse)


@triton.jit
def unnormalized_poisson_log_prob(c, x, rate):
    """x log(rate) - rate"""
    mean = _mean(c, rate)
    return tl.where(mean == float("inf"), -mean, scaled(x, _log_mean(c, rate)) - mean)


@triton.jit
def unnormalized_poisson_log_prob_gradient(c, grad, x, rate):
    mean = _mean(c, rate)
    if c.log_rate:
        slope = x - mean
    else:
        slope = tl.where(x == 0.0, -1.0, (x - mean) / mean)
    return grad * _log_mean(c, rate), grad * slope


@triton.jit
def _log_mean(c, rate):
    if c.log_rate:
        return rate
    else:
        return log(rate)


@triton.jit
def negative_binomial_log_prob(c, x, mean, inverse_dispersion):
    """log of Gamma(x + t) / (Gamma(t) x!) (t / (t + mean))^t (mean / (t + mean))^x, t the inverse dispersion."""
    return _log_prob(_terms(c, x, mean, inverse_dispersion))


@triton.jit
def negative_binomial_log_prob_gradient(c, grad, x, mean, inverse_dispersion):
    t = _terms(c, x, mean, inverse_dispersion)
    return grad * _slope_of_x(t), grad * _slope_of_mean(c, t), grad * _slope_of_dispersion(c, t)


@triton.jit
def zero_inflated_negative_binomial_log_prob(c, x, mean, inverse_dispersion, zero_logits):
    """A negative binomial, and sigmoid(zero_logits) of all mass at 0."""
    t = _terms(c, x, mean, inverse_dispersion)
    of_zero = _log_prob_of_0(t)
    excess = exponentials(of_zero).expm1 * sigmoid(-zero_logits)
    # Of a sum that is nearly 1 the logarithm is taken of what it lacks.
    near = excess > -0.5
    small = tl.where(near, excess, 0.0)
    larger = tl.where(zero_logits < of_zero, of_zero, zero_logits)
    far = (larger + softplus_decay(zero_logits - of_zero)) - softplus(zero_logits)
    zero = tl.where(near, log1p_of(small, small + 1.0).log, far)
    return tl.where(x == 0.0, zero, _log_prob(t) - softplus(zero_logits))


@triton.jit
def zero_inflated_negative_binomial_log_prob_gradient(c, grad, x, mean, inverse_dispersion, zero_logits):
    t = _terms(c, x, mean, inverse_dispersion)
    of_zero = _log_prob_of_0(t)
    of_counts = tl.where(x == 0.0, sigmoid(of_zero - zero_logits), 1.0)
    excess = exponentials(of_zero).expm1 * sigmoid(-zero_logits)
    slope = tl.where(x == 0.0, -excess * sigmoid(zero_logits - of_zero), -sigmoid(zero_logits))
    of_mean, of_dispersion = _slope_of_mean(c, t), _slope_of_dispersion(c, t)
    return grad * (of_counts * of_mean), grad * (of_counts * of_dispersion), grad * slope


class _Count(NamedTuple):
    """An x as the argument of lgamma(x + 1): value = x + by, and 1 / value."""

    by: Any
    value: Any
    inverse: Any


class _Terms(NamedTuple):
    """n = x + theta and theta, shifted by the same; m = mean + theta; the deviances' arguments and logarithms."""

    x: Any
    mean: Any
    theta: Any
    boundless: Any  # whether the mean is infinite
    count: Any
    by: Any
    n: Any
    value_theta: Any
    inverse_n: Any
    inverse_theta: Any
    inverse_m: Any
    first: Any
    second: Any
    of_first: Any
    of_second: Any


@triton.jit
def _terms(c, x, mean, inverse_dispersion):
    if c.log_dispersion:
        theta = exp(inverse_dispersion)
    else:
        theta = not_negative(inverse_dispersion)
    if c.log_mean:
        whole = exp(mean)
    else:
        whole = not_negative(mean)
    if c.odds:
        whole = theta * whole
    # What is larger counts as this: products of three stay finite, and it is as good as infinite to a Poisson's mean.
    theta = tl.where(theta > 1e15, 1e15, theta)
    bounded = tl.where(whole > 1e15, 1e15, whole)
    m = tl.where(theta + bounded < 1e-35, 1e-35, theta + bounded)
    k, n, by = _count(x), x + theta, _by(theta)
    value_n, value_theta = n + by, theta + by
    inverse_n, inverse_theta, inverse_m = 1.0 / value_n, 1.0 / value_theta, 1.0 / m
    first = (theta * ((bounded - x) - k.by) + (by - k.by) * bounded) * (k.inverse * inverse_m)
    second = (theta * (x - bounded) - by * bounded) * (inverse_theta * inverse_m)
    of_first = log1p_of(first, value_n * (bounded * (k.inverse * inverse_m)))
    of_second = log1p_of(second, (value_n * inverse_m) * (theta * inverse_theta))
    boundless = whole == float("inf")
    return _Terms(
        x,
        bounded,
        theta,
        boundless,
        k,
        by,
        n,
        value_theta,
        inverse_n,
        inverse_theta,
        inverse_m,
        first,
        second,
        of_first,
        of_second,
    )


@triton.jit
def _log_prob(t):
    deviances = t.x * t.of_first.rest + scaled(t.theta, t.of_second.rest) + (t.count.by * t.first + t.by * t.second)
    rests = stirling(t.inverse_n) - stirling(t.inverse_theta) - stirling(t.count.inverse)
    ratio = tl.full(t.x.shape, 1.0, t.x.dtype)
    for i in tl.static_range(shift_of(t.x.dtype)):
        factor = (t.theta + i) * t.inverse_theta / ((t.n + i) * t.inverse_n)
        ratio = tl.where(t.by > 0.0, ratio * factor, ratio)
    root = tl.sqrt(t.value_theta * t.inverse_n * t.count.value)
    positive = log(ratio * _ahead(t.x, t.count) * root) - (deviances + _HALF_LOG_2_PI) + rests
    return tl.where(t.boundless, float("-inf"), tl.where(t.x == 0.0, _log_prob_of_0(t), positive))


@triton.jit
def _log_prob_of_0(t):
    return tl.where(t.boundless, float("-inf"), scaled(t.theta, t.of_second.log))


@triton.jit
def _slope_of_x(t):
    """digamma(n) - digamma(x + 1) + log(mean / m). Here n is shifted by its own size."""
    own = _by(t.n)
    value, inverse_x_m = t.n + own, t.count.inverse * t.inverse_m
    inverse = 1.0 / value
    digamma_n = -0.5 * inverse - digamma_rest(inverse)
    for i in tl.static_range(shift_of(t.x.dtype)):
        digamma_n = tl.where(own > 0.0, digamma_n - 1.0 / (t.n + i), digamma_n)
    argument = (t.theta * ((t.mean - t.x) - t.count.by) + (own - t.count.by) * t.mean) * inverse_x_m
    ratio = log1p_of(argument, value * (t.mean * inverse_x_m))
    return ratio.log + (digamma_n - _digamma_after(t.x, t.count))


@triton.jit
def _slope_of_mean(c, t):
    relative = t.x - t.mean
    if not c.log_mean:
        relative = tl.where(t.x == 0.0, -1.0, relative / t.mean)
    return t.theta * t.inverse_m * relative


@triton.jit
def _slope_of_dispersion(c, t):
    difference = 0.5 * t.x * t.inverse_theta * t.inverse_n
    difference += digamma_rest(t.inverse_theta) - digamma_rest(t.inverse_n)
    for i in tl.static_range(shift_of(t.x.dtype)):
        below = t.x / ((t.theta + i) * (t.n + i))
        difference = tl.where((t.by > 0.0) & (t.n > 0.0), difference + below, difference)
    slope = t.of_second.log
    if not c.odds:
        slope = -t.of_second.rest - t.by * t.x * (t.inverse_theta * t.inverse_m)
    slope += difference
    if c.log_dispersion:
        slope = t.theta * slope
    return slope


@triton.jit
def _by(argument):
    """By how much an argument of lgamma is shifted."""
    return tl.where(argument < shift_of(argument.dtype), argument * 0.0 + shift_of(argument.dtype), 0.0)


@triton.jit
def _count(x):
    by = _by(x)
    return _Count(by, x + by, 1.0 / (x + by))


@triton.jit
def _ahead(x, k):
    """(x + 1) ... (x + by - 1) / value^by, and 1 / x where there is no shift."""
    product = k.inverse
    for i in tl.static_range(1, shift_of(x.dtype)):
        product = tl.where(k.by > 0.0, product * ((x + i) * k.inverse), product)
    return product


@triton.jit
def _digamma_after(x, k):
    """digamma(x + 1) - log(value)"""
    below = tl.zeros_like(x)
    for i in tl.static_range(1, shift_of(x.dtype)):
        below += 1.0 / (x + i)
    return -0.5 * k.inverse - digamma_rest(k.inverse) - tl.where(k.by > 0.0, below, -k.inverse)


register(ops.POISSON_LOG_PROB, poisson_log_prob, poisson_log_prob_gradient)
register(ops.UNNORMALIZED_POISSON_LOG_PROB, unnormalized_poisson_log_prob, unnormalized_poisson_log_prob_gradient)
register(ops.NEGATIVE_BINOMIAL_LOG_PROB, negative_binomial_log_prob, negative_binomial_log_prob_gradient)
register(
    ops.ZERO_INFLATED_NEGATIVE_BINOMIAL_LOG_PROB,
    zero_inflated_negative_binomial_log_prob,
    zero_inflated_negative_binomial_log_prob_gradient,
)
