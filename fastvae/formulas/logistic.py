"""A logistic distribution's mass on a bin: log(sigmoid(b) - sigmoid(a)), and its slopes.

Of the bin's ends a is the nearer to the mean, and b the farther, both turned so that the mean lies below the bin's
middle. Then the logarithm is log(1 - e^(a - b)) - softplus(a) - softplus(-b): none is positive, so nothing cancels. A
bin that is open to one side lacks the terms of its end there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .scale import scaled, softplus, standardized

_MOST_LOG_SCALE = 60.0


class _Ends(NamedTuple):
    below: Tensor  # whether the bin's middle is below the mean
    distance: Tensor
    scale: Tensor
    a: Tensor
    b: Tensor
    width: Tensor  # b - a
    closed: Tensor
    has_near: Tensor
    has_far: Tensor


def log_mass(residual: Tensor, log_scale: Tensor, half_bin: float, lowest: Tensor, highest: Tensor) -> Tensor:
    """`residual` is the bin's middle less the mean, `half_bin` half its width. The lowest bin is open below, the
    highest above."""
    ends = _ends(residual, log_scale, half_bin, lowest, highest)
    # A width that underflows: its logarithm is known all the same.
    within = _log1mexp(ends.width) + (_MOST_LOG_SCALE - log_scale).clamp(max=0)
    near, far = softplus(ends.a), softplus(-ends.b)
    return _sum(ends, within, -near, -far)


def slopes(
    residual: Tensor, log_scale: Tensor, half_bin: float, lowest: Tensor, highest: Tensor
) -> tuple[Tensor, Tensor]:
    """The derivatives of `log_mass` in residual and log_scale."""
    ends = _ends(residual, log_scale, half_bin, lowest, highest)
    of_a, of_b = ends.a.sigmoid(), torch.sigmoid(-ends.b)
    outwards = of_a * ends.b.sigmoid() * torch.expm1(-2 * standardized(ends.distance, ends.scale))
    slope = torch.where(ends.closed, outwards, torch.where(ends.has_near, -of_a, of_b))
    width = ends.width.clamp(max=1e3)  # whose exponential is infinite
    within = width / width.expm1()
    of_log_scale = _sum(ends, -within, scaled(of_a, ends.a), -scaled(of_b, ends.b))
    return standardized(torch.where(ends.below, -slope, slope), ends.scale), of_log_scale


def _ends(residual: Tensor, log_scale: Tensor, half_bin: float, lowest: Tensor, highest: Tensor) -> _Ends:
    below, closed, scale = residual < 0, ~(lowest | highest), log_scale.exp()
    distance = torch.where(below, -residual, residual)
    a, b = standardized(distance - half_bin, scale), standardized(distance + half_bin, scale)
    width = 2 * half_bin / scale.clamp(max=math.exp(_MOST_LOG_SCALE))
    return _Ends(below, distance, scale, a, b, width, closed, closed | (highest != below), closed | (highest == below))


def _sum(ends: _Ends, within: Tensor, near: Tensor, far: Tensor) -> Tensor:
    return (
        torch.where(ends.closed, within, 0.0)
        + torch.where(ends.has_near, near, 0.0)
        + torch.where(ends.has_far, far, 0.0)
    )


def _log1mexp(width: Tensor) -> Tensor:
    """log(1 - e^-width)"""
    near = width < math.log(2)
    small, large = torch.where(near, width, 1.0), torch.where(near, 1.0, width)
    return torch.where(near, (-torch.expm1(-small)).log(), torch.log1p(-torch.exp(-large)))
