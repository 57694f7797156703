"""p(x|z) of classes, row by row, and their gradients: classes are the last dimension, and a value is [..., 1].

Logits are taken relative to their largest, and of the sum of exponentials what there is beside the largest's, the tail,
is kept by itself: of a class that has nearly all of the mass, log p = -log(1 + tail) and 1 - p then have every digit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .counts import poisson_log_prob, rest_near


def multinomial_log_prob(x, logits, *, normalized):
    """sum of x log p, p = softmax(logits), and, if `normalized`, log of (sum x)! / (x_1! x_2! ...)."""
    s, total = _softmax(logits), x.sum(-1, keepdim=True)
    if normalized:
        factorials = _rest_of_factorial(x).sum(-1, keepdim=True) - _rest_of_factorial(total)
        return factorials - _deviance(x, total, s).sum(-1, keepdim=True)
    return torch.where(x == 0, 0.0, x * s.relative).sum(-1, keepdim=True) - total * s.tail.log1p()


def multinomial_log_prob_gradient(grad, x, logits, *, normalized):
    return grad * _less_expected(x, x.sum(-1, keepdim=True), _softmax(logits))


def categorical_log_prob(x, logits):
    """log p of class x, p = softmax(logits); NaN where there is no such class."""
    s, here = _softmax(logits), _is_class(x, logits)
    log_prob = torch.where(here, s.relative, 0.0).sum(-1, keepdim=True) - s.tail.log1p()
    return torch.where(here.any(-1, keepdim=True), log_prob, math.nan)


def categorical_log_prob_gradient(grad, x, logits):
    here = _is_class(x, logits)
    slope = _less_expected(here.to(logits.dtype), 1.0, _softmax(logits))
    return grad * torch.where(here.any(-1, keepdim=True), slope, math.nan)


def _is_class(x: Tensor, logits: Tensor) -> Tensor:
    return x == torch.arange(logits.shape[-1], device=logits.device)


class _Softmax(NamedTuple):
    """p = exp(relative) / (1 + tail)"""

    relative: Tensor
    is_largest: Tensor
    tail: Tensor
    p: Tensor


def _softmax(logits: Tensor) -> _Softmax:
    if logits.shape[-1] == 0:
        return _Softmax(logits, logits > 0, logits.sum(-1, keepdim=True), logits)
    largest, index = logits.max(-1, keepdim=True)
    # A logit of infinity takes all of the mass. Of two, or of several that are all -infinity, there is no limit.
    infinite = largest.isinf()
    relative = torch.where(infinite & (logits == largest), 0.0, logits - largest)
    is_largest = torch.arange(logits.shape[-1], device=logits.device) == index
    tail = torch.where(is_largest, 0.0, relative.exp()).sum(-1, keepdim=True)
    tail = torch.where(infinite & (tail > 0), math.nan, tail)
    return _Softmax(relative, is_largest, tail, relative.exp() / (1 + tail))


def _less_expected(x: Tensor, total: Tensor | float, s: _Softmax) -> Tensor:
    """x - total p; of a p beyond 1/2 by 1 - p."""
    return torch.where(s.is_largest & (s.tail < 1), (x - total) + total * (s.tail / (1 + s.tail)), x - total * s.p)


def _rest_of_factorial(x: Tensor) -> Tensor:
    """x log x - x - log x!, what a Poisson distribution has at its mean."""
    return poisson_log_prob(x, x, log_rate=False)


def _deviance(x: Tensor, total: Tensor, s: _Softmax) -> Tensor:
    """x log(x / expected) + expected - x, expected = total p: none is negative (Loader 2000)."""
    some, expected = x > 0, total * s.p
    count = torch.where(some, x, 1.0)
    excess = -_less_expected(x, total, s) / count
    near = (excess > -0.3) & (excess < 0.4)
    log_ratio = (s.relative - s.tail.log1p()) + (torch.where(total > 0, total, 1.0) / count).log()
    rest = torch.where(near, rest_near(torch.where(near, excess, 0.0)), excess - log_ratio)
    return torch.where(some, x * rest, expected)
