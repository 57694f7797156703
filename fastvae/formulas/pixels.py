"""p(x|z) of pixels, beside a Bernoulli's and a Gaussian's: log-likelihoods, element by element, and their gradients.

x is read as x * x_scale.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from . import logistic
from .elements import polynomial
from .polynomials import LANGEVIN_IN_DOUBLE, LOG_SINHC_IN_DOUBLE
from .scale import not_negative, standardized


def laplace_log_prob(x, mean, scale, *, x_scale, log_scale):
    """-(|x - mean| / scale + log(2 scale))"""
    s = _read(scale, log_scale)
    distance = standardized((x * x_scale - mean).abs(), s.scale)
    # Infinitely far off, the distance outgrows the logarithm of a vanishing scale.
    return -(distance + torch.where(distance == math.inf, 0.0, s.log) + math.log(2))


def laplace_log_prob_gradient(grad, x, mean, scale, *, x_scale, log_scale):
    s, residual = _read(scale, log_scale), x * x_scale - mean
    # Not torch.sign, of which NaN is 0.
    sign = torch.where(residual > 0, 1.0, torch.where(residual < 0, -1.0, residual))
    grad_mean = grad * standardized(sign, s.scale)
    return -grad_mean * x_scale, grad_mean, grad * ((standardized(residual.abs(), s.scale) - 1) * s.d_log)


class _Scale(NamedTuple):
    scale: Tensor
    log: Tensor
    d_log: Tensor  # of the logarithm in the parameter


def _read(scale: Tensor, log_scale: bool) -> _Scale:
    if log_scale:
        return _Scale(scale.exp(), scale * 1.0, torch.ones_like(scale))
    scale = not_negative(scale)
    return _Scale(scale, scale.log(), 1 / scale)


def continuous_bernoulli_log_prob(x, logits, *, x_scale):
    """x l - log((e^l - 1) / l), by the smaller side: log(y / (1 - e^-y)) - y (1 - x) with y = |l|, or x for 1 - x."""
    x, near = x * x_scale, logits.abs() < 1
    small, y = torch.where(near, logits, 0.0), _far(near, logits)
    side = torch.where(logits > 0, 1 - x, x)
    # Near 0 the logarithm cancels.
    of_small = small * (x - 0.5) - small * small * polynomial(small * small, LOG_SINHC_IN_DOUBLE)
    # A logit of infinity that agrees with its target has no such term; of one that does not, it outgrows the logarithm.
    linear = side * torch.where((side == 0) & (y == math.inf), 0.0, y)
    log = torch.where(linear.abs() == math.inf, 0.0, y.log() - torch.log1p(-torch.exp(-y)))
    return torch.where(near, of_small, log - linear)


def continuous_bernoulli_log_prob_gradient(grad, x, logits, *, x_scale):
    x, near = x * x_scale, logits.abs() < 1
    small, y = torch.where(near, logits, 0.0).abs(), _far(near, logits)
    decay = torch.exp(-y)
    # The smaller of the mean and what it lacks of 1.
    of_small = 0.5 - small * polynomial(small * small, LANGEVIN_IN_DOUBLE)
    smaller = torch.where(near, of_small, 1 / y - decay / (1 - decay))
    slope = torch.where(logits > 0, x - 1 + smaller, x - smaller)
    return grad * logits * x_scale, grad * slope


def _far(near: Tensor, logits: Tensor) -> Tensor:
    """|l|, where it is not near 0."""
    return torch.where(near, 1.0, logits.abs())


def discretized_logistic_log_prob(x, mean, log_scale, *, x_scale, half_bin):
    """log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)), h half a bin; the outermost bins are open."""
    x = x * x_scale
    return logistic.log_mass(x - mean, log_scale, half_bin, x < half_bin, x > 1 - half_bin)


def discretized_logistic_log_prob_gradient(grad, x, mean, log_scale, *, x_scale, half_bin):
    x = x * x_scale
    residual, of_scale = logistic.slopes(x - mean, log_scale, half_bin, x < half_bin, x > 1 - half_bin)
    return grad * residual * x_scale, -grad * residual, grad * of_scale
