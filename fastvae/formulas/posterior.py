"""q(z|x): samples and KL divergences, element by element, and their gradients.

A gradient takes those of the results that are summed, the operands, and where it samples the sums over the samples of
the sample's gradient and of that times the noise. `u` is a standardised residual.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .scale import Scale, read_scale, scaled, standardized


class Ratio(NamedTuple):
    """Of two variances."""

    minus_1: Tensor
    minus_1_minus_log: Tensor


def rsample(mean, scale, eps, **scale_as):
    """z = mean + std * eps (Kingma & Welling 2014, eq. 9)."""
    return mean + scaled(eps, read_scale(scale, **scale_as).std)


def rsample_gradient(mean, scale, grad, grad_eps, **scale_as):
    return grad, scaled(grad_eps, read_scale(scale, **scale_as).d_std)


def kl_standard_normal(mean, scale, *, free_bits, **scale_as):
    """KL(N(mean, std^2) || N(0, 1)) = (mean^2 + std^2 - 1 - log std^2) / 2 (Kingma & Welling 2014, appendix B)."""
    return _floored(_kl(mean, _ratio(read_scale(scale, **scale_as))), free_bits)


def kl_standard_normal_gradient(grad, mean, scale, *, free_bits, **scale_as):
    s = read_scale(scale, **scale_as)
    var = _ratio(s)
    grad = _above_floor(grad, _kl(mean, var), free_bits)
    return scaled(grad, mean), scaled(grad, _kl_slope(s, var))


def kl_normal(mean_q, scale_q, mean_p, scale_p, *, free_bits, **scale_as):
    """KL(N(mean_q, std_q^2) || N(mean_p, std_p^2)) = (((mean_q - mean_p) / std_p)^2 + e^t - 1 - t) / 2,
    t = log(std_q^2 / std_p^2)."""
    q, p = read_scale(scale_q, **scale_as), read_scale(scale_p, **scale_as)
    return _floored(_kl(standardized(mean_q - mean_p, p.std), _ratio(q, p)), free_bits)


def kl_normal_gradient(grad, mean_q, scale_q, mean_p, scale_p, *, free_bits, **scale_as):
    q, p = read_scale(scale_q, **scale_as), read_scale(scale_p, **scale_as)
    u = standardized(mean_q - mean_p, p.std)
    ratio = _ratio(q, p)
    grad = _above_floor(grad, _kl(u, ratio), free_bits)
    grad_mean = scaled(grad, standardized(u, p.std))
    grad_scale_q = scaled(grad, _kl_slope(q, ratio, p))
    grad_scale_p = scaled(grad, -(u * u + ratio.minus_1) * p.d_log_std)
    return grad_mean, grad_scale_q, -grad_mean, grad_scale_p


def rsample_kl(mean, scale, eps, *, free_bits, **scale_as):
    """`rsample` and `kl_standard_normal` of the same mean and scale."""
    return rsample(mean, scale, eps, **scale_as), kl_standard_normal(mean, scale, free_bits=free_bits, **scale_as)


def rsample_kl_gradient(grad_kl, mean, scale, grad, grad_eps, *, free_bits, **scale_as):
    of_z = rsample_gradient(mean, scale, grad, grad_eps, **scale_as)
    of_kl = kl_standard_normal_gradient(grad_kl, mean, scale, free_bits=free_bits, **scale_as)
    # Of two infinities the KL's is the larger: it goes as a variance does, the sample's as a standard deviation.
    of_scale = torch.where(of_kl[1].abs() == math.inf, 0.0, of_z[1]) + of_kl[1]
    return of_z[0] + of_kl[0], of_scale


def _kl_slope(q: Scale, ratio: Ratio, p: Scale | None = None) -> Tensor:
    """d ((ratio - 1 - log ratio) / 2) / d parameter of q, ratio = std_q^2 / std_p^2; without p, std_p = 1."""
    slope = ratio.minus_1 * q.d_log_std
    if q.logarithmic:
        return slope
    # Detached: the derivative of an infinite slope would be NaN, also where it is not taken.
    at_infinity = q.kl_slope_at_infinity if p is None else q.kl_slope_at_infinity / (p.std * p.std).detach()
    return torch.where(q.std == math.inf, at_infinity, slope)


def _kl(u: Tensor, ratio: Ratio) -> Tensor:
    """(u^2 + ratio - 1 - log ratio) / 2."""
    return (u * u + ratio.minus_1_minus_log) / 2


def _ratio(q: Scale, p: Scale | None = None) -> Ratio:
    """std_q^2 / std_p^2 from r = std_q / std_p = e^h; without p, std_p = 1. Differences that cancel by series in h."""
    if p is None:
        h, r = q.log_std, q.std
    elif q.logarithmic:
        h = q.log_std - p.log_std
        r = h.exp()
    else:  # logarithms of nearly equal numbers cancel, their ratio does not
        r = q.std / p.std
        h = r.log()
    near, small = h.abs() < 0.5, h.clamp(-0.5, 0.5)
    series = _series(small)
    # An infinite ratio outgrows its logarithm; that of a finite one is below 1e4.
    r_minus_1 = torch.where(near, series + small, r - 1)
    rest = torch.where(near, series, r - 1 - h.clamp(max=1e4))
    return Ratio(r_minus_1 * (r + 1), r_minus_1 * r_minus_1 + 2 * rest)


def _series(h: Tensor) -> Tensor:
    """e^h - 1 - h = h^2 (1 / 2! + h / 3! + ...); to the last digit for abs(h) <= 1/2."""
    last = 16 if h.dtype == torch.float64 else 9
    terms: list[Any] = [1 / math.factorial(n) for n in range(2, last + 1)]
    power = h
    while len(terms) > 1:  # two by two: in a chain each sum would wait for the one before
        terms = [a if b is None else a + b * power for a, b in zip_longest(terms[::2], terms[1::2])]
        power = power * power
    return h * h * terms[0]


def _floored(kl: Tensor, free_bits: float | Tensor) -> Tensor:
    return torch.where(kl <= free_bits, free_bits, kl) if _may_floor(free_bits) else kl


def _above_floor(grad: Tensor, kl: Tensor, free_bits: float | Tensor) -> Tensor:
    return torch.where(kl <= free_bits, 0.0, grad) if _may_floor(free_bits) else grad


def _may_floor(free_bits: float | Tensor) -> bool:
    return isinstance(free_bits, Tensor) or free_bits > 0
