"""p(x|z): log-likelihoods, element by element, and their gradients; x is read as x * x_scale."""

from __future__ import annotations

import math

import torch

from .scale import read_scale, standardized

_FINITE = (-torch.finfo(torch.float32).max, torch.finfo(torch.float32).max)


def bernoulli_log_prob(x, logits, *, x_scale):
    """x log p + (1 - x) log(1 - p) with p = sigmoid(logits)."""
    x, decay = x * x_scale, _decay(logits)
    side = torch.where(logits > 0, 1 - x, -x)
    # A logit of infinity that agrees with its target gives 0.
    finite = torch.where(side == 0, logits.clamp(*_FINITE), logits)
    return -(side * finite + decay.exp().log1p())


def bernoulli_log_prob_gradient(grad, x, logits, *, x_scale):
    x, e = x * x_scale, _decay(logits).exp()
    # x - sigmoid(l) by the smaller of sigmoid(l) and 1 - sigmoid(l): none is rounded off.
    smaller = e / (1 + e)
    slope = torch.where(logits > 0, x - 1 + smaller, x - smaller)
    return grad * logits * x_scale, grad * slope


def _decay(logits):
    """-|l|, with a derivative at 0: that from below, of which both halves of these formulas are made there."""
    return torch.where(logits > 0, -logits, logits)


def gaussian_log_prob(x, mean, scale, *, x_scale, normalized, **scale_as):
    """-((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2), the last constant only if `normalized`."""
    s = read_scale(scale, **scale_as)
    u = standardized(x * x_scale - mean, s.std)
    # Infinitely far off, the square outgrows the logarithm of a vanishing variance.
    log_std = torch.where(u.abs() == math.inf, 0.0, s.log_std)
    return -(u * u / 2 + log_std + (math.log(2 * math.pi) / 2 if normalized else 0.0))


def gaussian_log_prob_gradient(grad, x, mean, scale, *, x_scale, normalized, **scale_as):
    s = read_scale(scale, **scale_as)
    u = standardized(x * x_scale - mean, s.std)
    grad_mean = grad * standardized(u, s.std)
    return -grad_mean * x_scale, grad_mean, grad * ((u - 1) * (u + 1)) * s.d_log_std
