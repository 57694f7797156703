"""p(x|z): log-likelihoods."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._shapes import accumulate_dtype
from ..formulas.elements import sum_event
from ..formulas.scale import ScaleName, clamp_bounds
from ..ops import Likelihood
from ..ops.likelihood import BERNOULLI_LOG_PROB, GAUSSIAN_LOG_PROB
from ._arguments import Clamp, Reduction, as_operand, is_number, number, operands_shape, scale_arguments
from ._documents import documented
from ._one_node import one_node
from ._reductions import batch_factor, checked, reduced, sum_all, unreduced

__all__ = ["bernoulli_log_prob", "gaussian_log_prob"]


@one_node()
@documented
def bernoulli_log_prob(
    x: Tensor,
    logits: Tensor,
    *,
    x_scale: float | None = None,
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = x log p + (1 - x) log(1 - p), p = sigmoid(logits), in nats: cross-entropy in logits.

    Args:
        x: in [0, 1], which is not checked: floating, bool, or uint8 0..255; soft targets too.
        logits: float32, bfloat16, float16 or float64.

    Shape:
        x and logits broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        logits, and in a floating x.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.1.
    """
    return log_prob_of(BERNOULLI_LOG_PROB, (x, logits), event_ndim, reduction, mask, weight, x_scale)


@one_node()
@documented
def gaussian_log_prob(
    x: Tensor,
    mean: Tensor,
    log_var: Tensor | float | str,
    *,
    normalized: bool = True,
    x_scale: float | None = None,
    scale_as: ScaleName = "log_var",
    scale_eps: float = 0.0,
    clamp: Clamp | None = None,
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = -((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2) in nats.

    Args:
        x: floating, bool, or uint8 0..255.
        mean: float32, bfloat16, float16 or float64.
        log_var: a tensor per element, or broadcast ([D], [1, C, 1, 1], 0-d), or a float; or "optimal", the
            maximum-likelihood variance of the batch, gradient included. Read as `scale_as` says.
        normalized: False leaves log(2 pi) / 2 out.

    Shape:
        x, mean and log_var broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        mean, log_var, and a floating x; the gradient of a broadcast log_var has its shape.

    Reference:
        Kingma & Welling 2014, "Auto-encoding variational Bayes", appendix C.2. "optimal": Rybkin et al. 2021, "Simple
        and effective VAE training with calibrated decoders", eq. 6.
    """
    if isinstance(log_var, str):
        keywords = (normalized, x_scale, scale_as, clamp, event_ndim, reduction, mask, weight)
        log_prob = _optimal_log_prob(x, mean, log_var, *keywords)
        return log_prob if reduction == "none" else batch_factor(log_prob.shape, reduction) * sum_all(log_prob)
    if is_number(log_var):
        shape = operands_shape(("x", "mean"), x, mean)
    else:
        shape = operands_shape(("x", "mean", "log_var"), x, mean, log_var)
    scale = scale_arguments(scale_as, scale_eps, clamp)
    constants = (value_scale(GAUSSIAN_LOG_PROB, x, x_scale), normalized, *scale)
    event_ndim, weight = checked(shape, (x, mean), event_ndim, reduction, mask, weight)
    if is_number(log_var):
        log_var = as_operand(log_var, mean, accumulate_dtype(x, mean))
    return reduced(GAUSSIAN_LOG_PROB, (x, mean, log_var), weight, event_ndim, constants, shape, reduction)


def _optimal_log_prob(
    x: Tensor,
    mean: Tensor,
    log_var: str,
    normalized: bool,
    x_scale: float | None,
    scale_as: ScaleName,
    clamp: Clamp | None,
    event_ndim: int | None,
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """log N(x; mean, var) with var = sum(weight (x - mean)^2) / sum(weight) over the whole batch."""
    if log_var != "optimal":
        raise ValueError(f"log_var must be a tensor, a float or 'optimal', got {log_var!r}")
    shape = operands_shape(("x", "mean"), x, mean)
    scale_arguments(scale_as, 0.0, clamp)
    constants = (value_scale(GAUSSIAN_LOG_PROB, x, x_scale), False, *scale_arguments("log_var", 0.0, None))
    event_ndim, weight = checked(shape, (x, mean), event_ndim, reduction, mask, weight)
    unit = mean.new_zeros((), dtype=accumulate_dtype(x, mean))
    half_squares = unreduced(GAUSSIAN_LOG_PROB, (x, mean, unit), weight, event_ndim, constants)
    if half_squares.numel() == 0 or 0 in shape:
        return half_squares
    ones = half_squares.new_ones(()) if weight is None else weight.to(half_squares.dtype)
    counts = sum_event(ones.expand(shape), event_ndim)
    # [1], for torch multiplies no mapped number under a vmap over nothing.
    total, squares = sum_all(counts).reshape(1), -2 * sum_all(half_squares).reshape(1)
    nothing = total == 0
    var = squares / torch.where(nothing, 1.0, total)
    var = torch.where(nothing, 1.0, var)
    if clamp is not None:
        lo, hi = clamp_bounds("var", clamp)
        lo_and_hi = (as_operand(bound, var, var.dtype) for bound in (lo, min(hi, torch.finfo(var.dtype).max)))
        var = var.clamp(*lo_and_hi)
    log_prob = half_squares / var - counts / 2 * (var.log() + (math.log(2 * math.pi) if normalized else 0.0))
    return log_prob.reshape(half_squares.shape)


def value_scale(likelihood: Likelihood, x: Tensor, x_scale: float | None) -> float:
    if x_scale is None:
        return likelihood.x_scale.get(x.dtype, 1.0)
    return number("x_scale", x_scale)


def log_prob_of(
    likelihood: Likelihood,
    operands: tuple[Tensor, ...],
    event_ndim: int | None,
    reduction: Reduction,
    mask: Tensor | None,
    weight: Tensor | None,
    x_scale: float | None,
    *constants: float,
    event_of: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """A likelihood whose operands users know by the schema's names; the constants are those behind x_scale.

    `event_of` are the operands that tell how many dimensions are summed; without them, all do.
    """
    shape, x = operands_shape(likelihood.operands, *operands), operands[0]
    scale = value_scale(likelihood, x, x_scale)
    event_ndim, weight = checked(shape, event_of or operands, event_ndim, reduction, mask, weight)
    return reduced(likelihood, operands, weight, event_ndim, (scale, *constants), shape, reduction)
