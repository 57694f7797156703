"""p(x|z): log-likelihoods, element by element, and their gradients; x is read as x * x_scale."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import logsigmoid

from .scale import read_scale


def bernoulli_log_prob(x, logits, *, x_scale):
    """x log p + (1 - x) log(1 - p) with p = sigmoid(logits)."""
    x = x * x_scale
    side = torch.where(logits > 0, 1 - x, -x)
    return -(torch.where(side == 0, 0.0, logits * side) + (-logits.abs()).exp().log1p())


def bernoulli_log_prob_gradient(grad, x, logits, *, x_scale):
    x = x * x_scale
    e = (-logits.abs()).exp()
    smaller = e / (1 + e)
    slope = torch.where(logits > 0, x - 1 + smaller, x - smaller)
    return grad * logits * x_scale, grad * slope


def gaussian_log_prob(x, mean, scale, *, x_scale, normalized, **scale_as):
    """-((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2), the last constant only if `normalized`."""
    s = read_scale(scale, **scale_as)
    u = (x * x_scale - mean) / s.std
    return -(u * u / 2 + s.log_std + (math.log(2 * math.pi) / 2 if normalized else 0.0))


def gaussian_log_prob_gradient(grad, x, mean, scale, *, x_scale, normalized, **scale_as):
    s = read_scale(scale, **scale_as)
    u = (x * x_scale - mean) / s.std
    grad_mean = grad * (u / s.std)
    return -grad_mean * x_scale, grad_mean, grad * ((u - 1) * (u + 1)) * s.d_log_std
