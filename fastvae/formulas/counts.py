"""p(x|z) of counts, element by element, and their gradients.

lgamma(x + theta) - lgamma(theta) - lgamma(x + 1) is large where theta or x is, and cancels with what it is added to. So
it is written as deviances, none of which is negative, and the rests of Stirling's series (Loader 2000, "Fast and
accurate computation of binomial probabilities"). Small arguments of lgamma are first shifted up by _SHIFT.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .elements import polynomial
from .polynomials import DIGAMMA_IN_DOUBLE, STIRLING_IN_DOUBLE
from .scale import not_negative, scaled, softplus

_SHIFT = 4
_HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def poisson_log_prob(x, rate, *, log_rate):
    """x log(rate) - rate - log x!"""
    mean = rate.exp() if log_rate else not_negative(rate)
    count = _count(x)
    log_value, t = count.value.log(), (mean - count.value) / count.value
    near = (t > -0.3) & (t < 0.4)
    rest = torch.where(near, rest_near(torch.where(near, t, 0.0)), t - _log_ratio(rate, count, log_rate))
    ahead = _ahead(x, count).log() + log_value / 2 - _HALF_LOG_2_PI - _stirling(1 / count.value)
    return torch.where((x == 0) | (mean == math.inf), -mean, ahead - (count.shift * t + x * rest))


def poisson_log_prob_gradient(grad, x, rate, *, log_rate):
    mean, count = rate.exp() if log_rate else not_negative(rate), _count(x)
    slope = x - mean if log_rate else _relative(x, mean)
    return grad * (_log_ratio(rate, count, log_rate) - _digamma_after(x, count)), grad * slope


def unnormalized_poisson_log_prob(x, rate, *, log_rate):
    """x log(rate) - rate"""
    mean, log_mean = _mean_and_log(rate, log_rate)
    return torch.where(mean == math.inf, -mean, scaled(x, log_mean) - mean)


def unnormalized_poisson_log_prob_gradient(grad, x, rate, *, log_rate):
    mean, log_mean = _mean_and_log(rate, log_rate)
    slope = x - mean if log_rate else _relative(x, mean)
    return grad * log_mean, grad * slope


def _mean_and_log(rate: Tensor, log_rate: bool) -> tuple[Tensor, Tensor]:
    if log_rate:
        return rate.exp(), rate * 1.0
    mean = not_negative(rate)
    return mean, mean.log()


def _log_ratio(rate: Tensor, count: _Count, log_rate: bool) -> Tensor:
    """log(rate / value); of a rate that has underflowed the logarithm is known all the same."""
    return rate - count.value.log() if log_rate else (rate / count.value).log()


def negative_binomial_log_prob(x, mean, inverse_dispersion, **read_as):
    """log of Gamma(x + t) / (Gamma(t) x!) (t / (t + mean))^t (mean / (t + mean))^x, t the inverse dispersion."""
    return _log_prob(_terms(x, mean, inverse_dispersion, **read_as))


def negative_binomial_log_prob_gradient(grad, x, mean, inverse_dispersion, **read_as):
    terms = _terms(x, mean, inverse_dispersion, **read_as)
    slopes = _slope_of_x(terms), _slope_of_mean(terms, **read_as), _slope_of_dispersion(terms, **read_as)
    return tuple(grad * slope for slope in slopes)


def zero_inflated_negative_binomial_log_prob(x, mean, inverse_dispersion, zero_logits, **read_as):
    """A negative binomial, and sigmoid(zero_logits) of all mass at 0."""
    terms = _terms(x, mean, inverse_dispersion, **read_as)
    of_zero = _log_prob_of_0(terms)
    excess = of_zero.expm1() * torch.sigmoid(-zero_logits)
    # Of a sum that is nearly 1 the logarithm is taken of what it lacks.
    near = excess > -0.5
    small = torch.where(near, excess, 0.0).log1p()
    zero = torch.where(near, small, torch.logaddexp(zero_logits, of_zero) - softplus(zero_logits))
    return torch.where(x == 0, zero, _log_prob(terms) - softplus(zero_logits))


def zero_inflated_negative_binomial_log_prob_gradient(grad, x, mean, inverse_dispersion, zero_logits, **read_as):
    terms = _terms(x, mean, inverse_dispersion, **read_as)
    of_zero = _log_prob_of_0(terms)
    of_counts = torch.where(x == 0, torch.sigmoid(of_zero - zero_logits), 1.0)
    excess = of_zero.expm1() * torch.sigmoid(-zero_logits)
    slope = torch.where(x == 0, -excess * torch.sigmoid(zero_logits - of_zero), -torch.sigmoid(zero_logits))
    slopes = _slope_of_mean(terms, **read_as), _slope_of_dispersion(terms, **read_as)
    return *(grad * torch.where(of_counts == 0, 0.0, of_counts * s) for s in slopes), grad * slope


class _Count(NamedTuple):
    """An x as the argument of lgamma(x + 1): value = x + shift."""

    shift: Tensor
    value: Tensor


class _Log1p(NamedTuple):
    """log(1 + t) and t - log(1 + t), each to full relative accuracy."""

    log: Tensor
    rest: Tensor


class _Terms(NamedTuple):
    """n = x + theta and theta, shifted by the same; m = mean + theta; the deviances' arguments and logarithms."""

    x: Tensor
    mean: Tensor
    theta: Tensor
    boundless: Tensor  # whether the mean is infinite
    counted: _Count
    shift: Tensor
    n: Tensor
    m: Tensor
    first: Tensor
    second: Tensor
    of_first: _Log1p
    of_second: _Log1p


def _terms(x, mean, inverse_dispersion, *, log_mean, odds, log_dispersion) -> _Terms:
    # What is larger counts as this: the products below stay finite, and it is as good as infinite to a Poisson's mean.
    most = 1e100 if x.dtype == torch.float64 else 1e15
    theta = inverse_dispersion.exp() if log_dispersion else not_negative(inverse_dispersion)
    mean = mean.exp() if log_mean else not_negative(mean)
    mean = theta * mean if odds else mean
    boundless, mean, theta = mean == math.inf, mean.clamp(max=most), theta.clamp(max=most)
    count, shift, n, m = _count(x), _shift(theta), x + theta, (theta + mean).clamp(min=1e-35)
    value_n, value_theta = n + shift, theta + shift
    first = (theta * ((mean - x) - count.shift) + (shift - count.shift) * mean) / count.value / m
    second = (theta * (x - mean) - shift * mean) / value_theta / m
    of_first = _log1p(first, (value_n / m) * (mean / count.value))
    of_second = _log1p(second, (value_n / m) * (theta / value_theta))
    return _Terms(x, mean, theta, boundless, count, shift, n, m, first, second, of_first, of_second)


def _log_prob(t: _Terms) -> Tensor:
    deviances = (
        t.x * t.of_first.rest + scaled(t.theta, t.of_second.rest) + t.counted.shift * t.first + t.shift * t.second
    )
    inverse_n, inverse_theta = 1 / (t.n + t.shift), 1 / (t.theta + t.shift)
    rests = _stirling(inverse_n) - _stirling(inverse_theta) - _stirling(1 / t.counted.value)
    ratio = (t.theta + t.shift) * inverse_n * t.counted.value
    for i in range(_SHIFT):
        factor = (t.theta + i) * inverse_theta / ((t.n + i) * inverse_n)
        ratio = torch.where(t.shift > 0, ratio * factor * factor, ratio)
    positive = _ahead(t.x, t.counted).log() + ratio.log() / 2 - (deviances + _HALF_LOG_2_PI) + rests
    return torch.where(t.boundless, -math.inf, torch.where(t.x == 0, _log_prob_of_0(t), positive))


def _log_prob_of_0(t: _Terms) -> Tensor:
    return torch.where(t.boundless, -math.inf, scaled(t.theta, t.of_second.log))


def _slope_of_x(t: _Terms) -> Tensor:
    """digamma(n) - digamma(x + 1) + log(mean / m). Here n is shifted by its own size."""
    own = _shift(t.n)
    value = t.n + own
    below = sum(1 / (t.n + i) for i in range(_SHIFT))
    digamma_n = -0.5 / value - _digamma_rest(1 / value) - torch.where(own > 0, below, 0.0)
    argument = (t.theta * ((t.mean - t.x) - t.counted.shift) + (own - t.counted.shift) * t.mean) / t.counted.value / t.m
    ratio = _log1p(argument, (value / t.m) * (t.mean / t.counted.value))
    return ratio.log + (digamma_n - _digamma_after(t.x, t.counted))


def _slope_of_mean(t: _Terms, *, log_mean, **_) -> Tensor:
    relative = t.x - t.mean if log_mean else _relative(t.x, t.mean)
    return t.theta / t.m * relative


def _slope_of_dispersion(t: _Terms, *, odds, log_dispersion, **_) -> Tensor:
    inverse_n, inverse_theta = 1 / (t.n + t.shift), 1 / (t.theta + t.shift)
    difference = t.x * inverse_theta * inverse_n / 2 + (_digamma_rest(inverse_theta) - _digamma_rest(inverse_n))
    below = sum(t.x / ((t.theta + i) * (t.n + i)) for i in range(_SHIFT))
    difference = difference + torch.where((t.shift > 0) & (t.n > 0), below, 0.0)
    slope = t.of_second.log if odds else -t.of_second.rest - t.shift * t.x * inverse_theta / t.m
    return t.theta * (slope + difference) if log_dispersion else slope + difference


def _relative(x: Tensor, mean: Tensor) -> Tensor:
    """(x - mean) / mean, -1 where both are 0."""
    nothing = (x == 0) & (mean == 0)
    return torch.where(nothing, -1.0, (x - mean) / torch.where(nothing, 1.0, mean))


def _shift(argument: Tensor) -> Tensor:
    return torch.where(argument < _SHIFT, float(_SHIFT), torch.zeros_like(argument))


def _count(x: Tensor) -> _Count:
    shift = _shift(x)
    return _Count(shift, x + shift)


def _ahead(x: Tensor, count: _Count) -> Tensor:
    """(x + 1) ... (x + shift - 1) / value^shift, and 1 / x where there is no shift."""
    product = 1 / count.value
    for i in range(1, _SHIFT):
        product = torch.where(count.shift > 0, product * (x + i) / count.value, product)
    return product


def _digamma_after(x: Tensor, count: _Count) -> Tensor:
    """digamma(x + 1) - log(value)"""
    below = sum(1 / (x + i) for i in range(1, _SHIFT))
    return -0.5 / count.value - _digamma_rest(1 / count.value) - torch.where(count.shift > 0, below, -1 / count.value)


def _stirling(v: Tensor) -> Tensor:
    """lgamma(1/v) - ((1/v - 1/2) log(1/v) - 1/v + log(2 pi) / 2)"""
    return v * polynomial(v * v, STIRLING_IN_DOUBLE)


def _digamma_rest(v: Tensor) -> Tensor:
    """log(1/v) - v/2 - digamma(1/v)"""
    return v * v * polynomial(v * v, DIGAMMA_IN_DOUBLE)


def _log1p(t: Tensor, q: Tensor) -> _Log1p:
    """`q` is 1 + t, and made otherwise where that cancels."""
    near = (q > 0.7) & (q < 1.4)
    small, log = torch.where(near, t, 0.0), torch.where(near, 1.0, q).log()
    return _Log1p(torch.where(near, small.log1p(), log), torch.where(near, rest_near(small), t - log))


def rest_near(t: Tensor) -> Tensor:
    """t - log(1 + t) by log(1 + t) = 2 artanh(t / (2 + t)), for t from -0.3 to 0.4."""
    r = t / (2 + t)
    series = torch.zeros_like(r)
    for k in range(12, 0, -1):  # 0.03^13 / 27 is below 2^-53 of a third
        series = r * r * (1 / (2 * k + 1) + series)
    return r * (t - 2 * series)
