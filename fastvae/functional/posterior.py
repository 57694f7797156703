"""q(z|x) = N(mean, std^2), diagonal: samples and KL divergences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._shapes import broadcast_shape
from ..formulas.scale import ScaleName
from ..ops import Operator
from ..ops.noise import as_seed, draw_seed
from ..ops.posterior import KL_NORMAL, KL_STANDARD_NORMAL, RSAMPLE, RSAMPLE_KL
from ._arguments import (
    Clamp,
    FreeBitsOver,
    check_free_bits,
    check_noise,
    check_num_samples,
    element_weight,
    event_dims,
    operands_shape,
    scale_arguments,
)
from ._documents import documented
from ._free_bits import elementwise, floored, level_of
from ._one_node import one_node
from ._weights import may_need_grad, summed

__all__ = ["kl_normal", "kl_standard_normal", "rsample", "rsample_kl"]


@one_node()
@documented
def rsample(
    mean: Tensor,
    log_var: Tensor,
    *,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    num_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    eps: Tensor | None = None,
) -> Tensor:
    """A reparameterised sample z = mean + std * eps, eps ~ N(0, I), of q(z|x) = N(mean, std^2).

    The same seed gives the same noise on every device and in every dtype and layout.

    Args:
        mean: float32, bfloat16, float16 or float64.
        log_var: likewise; read as `scale_as` says. The two may differ in dtype.

    Shape:
        mean and log_var broadcast; z is shaped like that, [K, *mean.shape] with `num_samples` = K.

    Returns:
        z in mean's dtype, differentiable in mean, log_var and eps.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", eq. 9.
    """
    shape = operands_shape(("mean", "log_var"), mean, log_var)
    scale = scale_arguments(scale_as, scale_eps, clamp)
    count = check_num_samples(num_samples, shape)
    check_noise(seed, generator, eps, shape, count, mean.device)
    return _rsample(mean, log_var, _seed(mean, seed, generator, eps), eps, count, scale)


@one_node()
@documented
def kl_standard_normal(
    mean: Tensor,
    log_var: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    free_bits: float | Tensor = 0.0,
    free_bits_over: FreeBitsOver = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """KL(N(mean, std^2) || N(0, I)) in nats, in closed form: the sum of (mean^2 + std^2 - 1 - log std^2) / 2.

    Args:
        mean: float32, bfloat16, float16 or float64.
        log_var: likewise; read as `scale_as` says. The two may differ in dtype.

    Shape:
        mean and log_var broadcast to [*batch, *event].

    Returns:
        The divergence, [*batch], never negative; float32, float64 where an operand is.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix B.
    """
    shape = operands_shape(("mean", "log_var"), mean, log_var)
    event_ndim = event_dims(event_ndim, shape, mean)
    scale = scale_arguments(scale_as, scale_eps, clamp)
    free_bits = check_free_bits(free_bits, free_bits_over, mean.device)
    weight = element_weight(mask, weight, shape, mean.device)
    return _kl(KL_STANDARD_NORMAL, (mean, log_var), weight, event_ndim, free_bits, free_bits_over, scale)


@one_node()
@documented
def kl_normal(
    mean_q: Tensor,
    log_var_q: Tensor,
    mean_p: Tensor,
    log_var_p: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    free_bits: float | Tensor = 0.0,
    free_bits_over: FreeBitsOver = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """KL(N(mean_q, std_q^2) || N(mean_p, std_p^2)) in nats, in closed form.

    The sum of (((mean_q - mean_p) / std_p)^2 + r - 1 - log r) / 2 with r = std_q^2 / std_p^2.

    Args:
        mean_q: float32, bfloat16, float16 or float64, as the others; they may differ in dtype.
        log_var_q: read as `scale_as` says.
        mean_p: of the prior.
        log_var_p: of the prior. `scale_as`, `scale_eps` and `clamp` hold for both scales.

    Shape:
        The four broadcast to [*batch, *event].

    Returns:
        The divergence, [*batch], never negative; float32, float64 where an operand is.

    Reference:
        Kullback & Leibler 1951, "On information and sufficiency"; for Gaussians: Rasmussen & Williams 2006, "Gaussian
        processes for machine learning", eq. A.23.
    """
    operands = (mean_q, log_var_q, mean_p, log_var_p)
    shape = operands_shape(("mean_q", "log_var_q", "mean_p", "log_var_p"), *operands)
    event_ndim = event_dims(event_ndim, shape, mean_q, mean_p)
    scale = scale_arguments(scale_as, scale_eps, clamp)
    free_bits = check_free_bits(free_bits, free_bits_over, mean_q.device)
    weight = element_weight(mask, weight, shape, mean_q.device)
    return _kl(KL_NORMAL, operands, weight, event_ndim, free_bits, free_bits_over, scale)


@one_node(results=2)
@documented
def rsample_kl(
    mean: Tensor,
    log_var: Tensor,
    *,
    event_ndim: int | None = None,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    num_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    eps: Tensor | None = None,
    free_bits: float | Tensor = 0.0,
    free_bits_over: FreeBitsOver = "element",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`rsample` and `kl_standard_normal` of the same mean and log_var, which are read once.

    With `num_samples`, `mask` or `weight` the two are computed one after the other.

    Args:
        mean: float32, bfloat16, float16 or float64.
        log_var: likewise; read as `scale_as` says. The two may differ in dtype.
        mask: of the KL alone; bool, broadcasts to the elements. Where it is False, value and gradients are exactly
            zero, also where the element is NaN.
        weight: of the KL alone; floating, broadcasts to the elements, whose terms it multiplies.

    Shape:
        mean and log_var broadcast to [*batch, *event].

    Returns:
        (z, kl): z in mean's dtype, shaped like the operands or [K, *mean.shape]; kl in nats, [*batch], float32 or
        float64.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", eq. 9 and appendix B.
    """
    shape = operands_shape(("mean", "log_var"), mean, log_var)
    event_ndim = event_dims(event_ndim, shape, mean)
    scale = scale_arguments(scale_as, scale_eps, clamp)
    count = check_num_samples(num_samples, shape)
    free_bits = check_free_bits(free_bits, free_bits_over, mean.device)
    check_noise(seed, generator, eps, shape, count, mean.device)
    weight = element_weight(mask, weight, shape, mean.device)
    key = _seed(mean, seed, generator, eps)
    if count or weight is not None or may_need_grad(eps):
        z = _rsample(mean, log_var, key, eps, count, scale)
        operands = (mean, log_var)
        return z, _kl(KL_STANDARD_NORMAL, operands, weight, event_ndim, free_bits, free_bits_over, scale)
    level = level_of(free_bits, free_bits_over)
    if level is None:
        z, kl = RSAMPLE_KL.apply(mean, log_var, key, eps, event_ndim, free_bits, *scale)
        return z, kl
    z, kl = RSAMPLE_KL.apply(mean, log_var, key, eps, elementwise(level, event_ndim), 0.0, *scale)
    return z, floored(kl, None, shape, event_ndim, free_bits, level)


def _rsample(
    mean: Tensor, log_var: Tensor, seed: Tensor | None, eps: Tensor | None, count: int, scale: Sequence[Any]
) -> Tensor:
    sample = RSAMPLE.formula.forward if may_need_grad(eps) else RSAMPLE.apply
    z: Tensor = sample(mean, log_var, seed, eps, count, *scale)
    return z


def _seed(
    mean: Tensor, seed: int | Tensor | None, generator: torch.Generator | None, eps: Tensor | None
) -> Tensor | None:
    """The stream's key as a tensor; None where the noise is given."""
    if eps is not None:
        return None
    return draw_seed(mean, generator) if seed is None else as_seed(seed, mean.device)


def _kl(
    operator: Operator,
    operands: tuple[Tensor, ...],
    weight: Tensor | None,
    event_ndim: int,
    free_bits: float | Tensor,
    over: FreeBitsOver,
    scale: Sequence[Any],
) -> Tensor:
    level = level_of(free_bits, over)
    if level is None:
        return summed(lambda w, ndim: operator.apply(*operands, w, ndim, free_bits, *scale), weight, event_ndim)
    if elementwise(level, event_ndim) == 0:
        kl = operator.apply(*operands, None if weight is None else weight != 0, 0, 0.0, *scale)
    else:
        kl = summed(lambda w, ndim: operator.apply(*operands, w, ndim, 0.0, *scale), weight, event_ndim)
    return floored(kl, weight, broadcast_shape(*operands), event_ndim, free_bits, level)
