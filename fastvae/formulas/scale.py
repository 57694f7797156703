"""How the second parameter of a Gaussian is read: `scale_as`, and the clamp on the log-variance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_INFINITIES = (-math.inf, math.inf)

ScaleName = Literal["log_var", "log_std", "var", "std", "softplus"]


class ScaleAs(NamedTuple):
    """What a parameter s holds: v, a function of s that the clamp bounds; log std and std as functions of v (of v and s
    where v has underflowed); their derivatives in s as functions of v and dv/ds."""

    read: Callable[[Tensor, float], tuple[Tensor, Tensor | None]]  # (s, scale_eps) -> v and dv/ds, None where v is s
    log_std: Callable[[Tensor, Tensor], Tensor]
    std: Callable[[Tensor], Tensor]
    d_log_std: Callable[[Tensor, Any], Tensor]
    d_std: Callable[[Tensor, Any], Tensor]
    bound: Callable[[float], float]  # a bound on the log-variance as one on v
    logarithmic: bool
    kl_slope_at_infinity: float  # the limit of d ((std^2 - 1 - log std^2) / 2) / ds for std to infinity


def softplus(s: Tensor) -> Tensor:
    return -logsigmoid(-s)


def exp_or_infinity(bound: float) -> float:
    try:
        power: float = math.e**bound  # math.exp is nothing that torch.compile traces of a number that varies
        return power
    except OverflowError:
        return math.inf


def _as_it_is(s: Tensor, scale_eps: float) -> tuple[Tensor, None]:
    return s, None


def not_negative(s: Tensor) -> Tensor:
    """NaN below 0, and -0 is 0."""
    return torch.where(s < 0, math.nan, s + 0.0)


def _softplus(s: Tensor, scale_eps: float) -> tuple[Tensor, Tensor]:
    return softplus(s) + scale_eps, s.sigmoid()


SCALE_AS: dict[ScaleName, ScaleAs] = {
    "log_var": ScaleAs(
        read=_as_it_is,
        log_std=lambda v, _: v / 2,
        std=lambda v: (v / 2).exp(),
        d_log_std=lambda v, _: torch.full_like(v, 0.5),
        d_std=lambda v, _: (v / 2).exp() / 2,
        bound=lambda log_var: log_var,
        logarithmic=True,
        kl_slope_at_infinity=math.inf,
    ),
    "log_std": ScaleAs(
        read=_as_it_is,
        log_std=lambda v, _: v * 1.0,
        std=lambda v: v.exp(),
        d_log_std=lambda v, _: torch.ones_like(v),
        d_std=lambda v, _: v.exp(),
        bound=lambda log_var: log_var / 2,
        logarithmic=True,
        kl_slope_at_infinity=math.inf,
    ),
    "var": ScaleAs(
        read=_as_it_is,
        log_std=lambda v, _: v.log() / 2,
        std=lambda v: v.sqrt(),
        d_log_std=lambda v, _: 0.5 / v,
        d_std=lambda v, _: 0.5 / v.sqrt(),
        bound=exp_or_infinity,
        logarithmic=False,
        kl_slope_at_infinity=0.5,
    ),
    "std": ScaleAs(
        read=_as_it_is,
        log_std=lambda v, _: v.log(),
        std=lambda v: v * 1.0,
        d_log_std=lambda v, _: 1 / v,
        d_std=lambda v, _: torch.where(v >= 0, 1.0, v),
        bound=lambda log_var: exp_or_infinity(log_var / 2),
        logarithmic=False,
        kl_slope_at_infinity=math.inf,
    ),
    "softplus": ScaleAs(
        read=_softplus,
        log_std=lambda v, s: torch.where(v == 0, s, v.log()),
        std=lambda v: v * 1.0,
        d_log_std=lambda v, slope: torch.where(v == 0, 1.0, slope / v),
        d_std=lambda v, slope: slope * 1.0,
        bound=lambda log_var: exp_or_infinity(log_var / 2),
        logarithmic=False,
        kl_slope_at_infinity=math.inf,
    ),
}


def clamp_bounds(scale_as: ScaleName, clamp: tuple[float, float]) -> tuple[float, float]:
    """Bounds on the log-variance as the bounds on v that operators take; an infinite bound is none."""
    bound = SCALE_AS[scale_as].bound
    lo, hi = (float(b) if b in _INFINITIES else bound(b) for b in clamp)
    return lo, hi


class Scale(NamedTuple):
    """The second parameter, clamped; the derivatives are in the parameter, and zero outside the clamp."""

    log_std: Tensor
    std: Tensor
    d_log_std: Tensor
    d_std: Tensor
    logarithmic: bool
    kl_slope_at_infinity: float


def read_scale(scale: Tensor, *, scale_as: ScaleName, scale_eps: float, clamp_lo: float, clamp_hi: float) -> Scale:
    how = SCALE_AS[scale_as]
    v, slope = how.read(scale, scale_eps)
    closed = None
    if isinstance(clamp_lo, Tensor) or isinstance(clamp_hi, Tensor) or (clamp_lo, clamp_hi) != _INFINITIES:
        below, above = v < clamp_lo, v > clamp_hi
        closed = below | above
        v = torch.where(below, clamp_lo, torch.where(above, clamp_hi, v))
    if not how.logarithmic:
        v = not_negative(v)
    # 1 is harmless however s is read: what is discarded must not turn a zero gradient into NaN.
    inside = v if closed is None else torch.where(closed, 1.0, v)
    d_log_std, d_std = how.d_log_std(inside, slope), how.d_std(inside, slope)
    if closed is not None:
        d_log_std, d_std = torch.where(closed, 0.0, d_log_std), torch.where(closed, 0.0, d_std)
    return Scale(how.log_std(v, scale), how.std(v), d_log_std, d_std, how.logarithmic, how.kl_slope_at_infinity)


def standardized(distance: Tensor, std: Tensor) -> Tensor:
    """distance / std: 0 where there is none, though std be 0."""
    return distance / torch.where((distance == 0) & (std == 0), 1.0, std)


def scaled(factor: Tensor, x: Tensor) -> Tensor:
    """factor x, 0 for a factor of 0 though x be infinite; NaN comes through."""
    return factor * torch.where((factor == 0) & (x.abs() == math.inf), 0.0, x)
