"""q(z|x): samples and KL divergences, element by element, and their gradients.

A gradient takes those of the results that are summed, the operands, and where it samples the sums over the samples of
the sample's gradient and of that times the noise. `t` is a log-variance (or a difference of two), `u` a standardised
residual.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .scale import Scale, read_scale, standardized


def rsample(mean, scale, eps, **scale_as):
    """z = mean + std * eps (Kingma & Welling 2014, eq. 9)."""
    return mean + _scaled(eps, read_scale(scale, **scale_as).std)


def rsample_gradient(mean, scale, grad, grad_eps, **scale_as):
    return grad, _scaled(grad_eps, read_scale(scale, **scale_as).d_std)


def kl_standard_normal(mean, scale, *, free_bits, **scale_as):
    """KL(N(mean, std^2) || N(0, 1)) = (mean^2 + std^2 - 1 - log std^2) / 2 (Kingma & Welling 2014, appendix B)."""
    return _floored(_kl(mean, *_log_ratio(read_scale(scale, **scale_as))), free_bits)


def kl_standard_normal_gradient(grad, mean, scale, *, free_bits, **scale_as):
    s = read_scale(scale, **scale_as)
    t, var_minus_1 = _log_ratio(s)
    grad = _above_floor(grad, _kl(mean, t, var_minus_1), free_bits)
    return _scaled(grad, mean), _scaled(grad, _kl_slope(s, var_minus_1))


def kl_normal(mean_q, scale_q, mean_p, scale_p, *, free_bits, **scale_as):
    """KL(N(mean_q, std_q^2) || N(mean_p, std_p^2)) = (((mean_q - mean_p) / std_p)^2 + e^t - 1 - t) / 2,
    t = log(std_q^2 / std_p^2)."""
    q, p = read_scale(scale_q, **scale_as), read_scale(scale_p, **scale_as)
    return _floored(_kl(standardized(mean_q - mean_p, p.std), *_log_ratio(q, p)), free_bits)


def kl_normal_gradient(grad, mean_q, scale_q, mean_p, scale_p, *, free_bits, **scale_as):
    q, p = read_scale(scale_q, **scale_as), read_scale(scale_p, **scale_as)
    u = standardized(mean_q - mean_p, p.std)
    t, ratio_minus_1 = _log_ratio(q, p)
    grad = _above_floor(grad, _kl(u, t, ratio_minus_1), free_bits)
    grad_mean = _scaled(grad, standardized(u, p.std))
    grad_scale_q = _scaled(grad, _kl_slope(q, ratio_minus_1, p))
    grad_scale_p = _scaled(grad, -(u * u + ratio_minus_1) * p.d_log_std)
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


def _scaled(factor: Tensor, x: Tensor) -> Tensor:
    """factor x, 0 for a factor of 0 though x be infinite; NaN comes through."""
    return factor * torch.where((factor == 0) & (x.abs() == math.inf), 0.0, x)


def _kl_slope(q: Scale, ratio_minus_1: Tensor, p: Scale | None = None) -> Tensor:
    """d ((ratio - 1 - log ratio) / 2) / d parameter of q, ratio = std_q^2 / std_p^2; without p, std_p = 1."""
    slope = ratio_minus_1 * q.d_log_std
    if q.logarithmic:
        return slope
    # Detached: the derivative of an infinite slope would be NaN, also where it is not taken.
    at_infinity = q.kl_slope_at_infinity if p is None else q.kl_slope_at_infinity / (p.std * p.std).detach()
    return torch.where(q.std == math.inf, at_infinity, slope)


def _kl(u: Tensor, t: Tensor, expm1: Tensor) -> Tensor:
    """(u^2 + e^t - 1 - t) / 2, the difference by series near t = 0, where it cancels."""
    # An infinite ratio outgrows its logarithm; that of a finite one is below 1e4.
    beyond = expm1 - t.clamp(max=1e4)
    return (u * u + torch.where(t.abs() < 0.5, _series(t.clamp(-0.5, 0.5)), beyond)) / 2


def _series(t: Tensor) -> Tensor:
    """e^t - 1 - t = t^2 / 2! + t^3 / 3! + ...; to the last digit for abs(t) <= 1/2."""
    last = 16 if t.dtype == torch.float64 else 9
    total = torch.full_like(t, 1 / math.factorial(last))
    for n in range(last - 1, 1, -1):
        total = total * t + 1 / math.factorial(n)
    return t * t * total


def _log_ratio(q: Scale, p: Scale | None = None) -> tuple[Tensor, Tensor]:
    """t = log(std_q^2 / std_p^2) and e^t - 1; without p, std_p = 1."""
    if q.logarithmic:
        t = 2 * (q.log_std if p is None else q.log_std - p.log_std)
        return t, t.expm1()
    # Logarithms of nearly equal numbers cancel, their ratio does not.
    ratio = q.std if p is None else q.std / p.std
    t = 2 * (q.log_std if p is None else ratio.log())
    return t, torch.where(t.abs() < 0.5, t.clamp(-0.5, 0.5).expm1(), (ratio - 1) * (ratio + 1))


def _floored(kl: Tensor, free_bits: float | Tensor) -> Tensor:
    return torch.where(kl <= free_bits, free_bits, kl) if _may_floor(free_bits) else kl


def _above_floor(grad: Tensor, kl: Tensor, free_bits: float | Tensor) -> Tensor:
    return torch.where(kl <= free_bits, 0.0, grad) if _may_floor(free_bits) else grad


def _may_floor(free_bits: float | Tensor) -> bool:
    return isinstance(free_bits, Tensor) or free_bits > 0
