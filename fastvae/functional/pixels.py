"""p(x|z) of pixels, beside a Bernoulli's and a Gaussian's: log-likelihoods."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._shapes import accumulate_dtype
from ..ops.pixels import CONTINUOUS_BERNOULLI_LOG_PROB, DISCRETIZED_LOGISTIC_LOG_PROB, LAPLACE_LOG_PROB
from ._arguments import Reduction, as_operand, check_name, integer, is_number, operands_shape
from ._documents import documented
from ._one_node import one_node
from .likelihood import log_prob_of

__all__ = ["continuous_bernoulli_log_prob", "discretized_logistic_log_prob", "laplace_log_prob"]

LaplaceScaleName = Literal["scale", "log_scale"]

_LOG_SCALE = {"scale": False, "log_scale": True}  # as the operator says it


@one_node()
@documented
def laplace_log_prob(
    x: Tensor,
    mean: Tensor,
    scale: Tensor | float,
    *,
    scale_as: LaplaceScaleName = "scale",
    x_scale: float | None = None,
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = -(|x - mean| / scale + log(2 scale)) in nats: a Laplace distribution, whose variance is 2 scale^2.

    Args:
        x: floating, bool, or uint8 0..255.
        mean: float32, bfloat16, float16 or float64.
        scale: a tensor per element, or broadcast ([D], [1, C, 1, 1], 0-d), or a float.
        scale_as: what `scale` holds: "scale", as torch.distributions has it, or "log_scale".

    Shape:
        x, mean and scale broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        mean, scale, and a floating x; the gradient of a broadcast scale has its shape. Where x is mean, the slope in
        both is 0.

    Reference:
        Laplace 1774, "Memoire sur la probabilite des causes par les evenements"; `torch.distributions.Laplace`.
    """
    check_name("scale_as", scale_as, _LOG_SCALE)
    if is_number(scale):
        operands_shape(("x", "mean"), x, mean)
        scale = as_operand(scale, mean, accumulate_dtype(x, mean))
    operands, event_of = (x, mean, scale), (x, mean)
    how = (event_ndim, reduction, mask, weight, x_scale)
    return log_prob_of(LAPLACE_LOG_PROB, operands, *how, _LOG_SCALE[scale_as], event_of=event_of)


@one_node()
@documented
def continuous_bernoulli_log_prob(
    x: Tensor,
    logits: Tensor,
    *,
    x_scale: float | None = None,
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = x log p + (1 - x) log(1 - p) + log C(p), p = sigmoid(logits), in nats: a density on [0, 1].

    Its constant C makes it one, which cross-entropy of gray values lacks: log C = log(2 artanh(1 - 2 p) / (1 - 2 p)).
    It is computed in logits, to the last digits at any of them: `torch.distributions.ContinuousBernoulli` bounds its
    probabilities, which is 0.06 nats off at a logit of 17, and 1.8 at 100.

    Args:
        x: in [0, 1], which is not checked: floating, bool, or uint8 0..255.
        logits: float32, bfloat16, float16 or float64. They are no logits of the mean.

    Shape:
        x and logits broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        logits, and in a floating x.

    Reference:
        Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error in variational
        autoencoders", section 3.
    """
    how = (event_ndim, reduction, mask, weight, x_scale)
    return log_prob_of(CONTINUOUS_BERNOULLI_LOG_PROB, (x, logits), *how)


@one_node()
@documented
def discretized_logistic_log_prob(
    x: Tensor,
    mean: Tensor,
    log_scale: Tensor,
    *,
    bins: int = 256,
    x_scale: float | None = None,
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)) in nats, s = exp(log_scale).

    A logistic distribution's mass on the bin around x, h = 1 / (2 (bins - 1)) to each side; the lowest bin is open
    below, the highest above, so the masses of all bins sum to 1. For pixels in [-1, 1], as PixelCNN++ has them, pass
    (x + 1) / 2, (mean + 1) / 2 and log_scale - log 2.

    Args:
        x: k / (bins - 1) for k = 0 .. bins - 1, so in [0, 1], which is not checked: floating, bool, or uint8 0..255.
        mean: float32, bfloat16, float16 or float64; in units of x.
        log_scale: a tensor per element, or broadcast ([D], [1, C, 1, 1], 0-d).
        bins: how many values x can have, 2 at least.

    Shape:
        x, mean and log_scale broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        mean, log_scale, and a floating x; the gradient of a broadcast log_scale has its shape.

    Reference:
        Kingma et al. 2016, "Improving variational inference with inverse autoregressive flow"; Salimans et al. 2017,
        "PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other modifications",
        eq. 2, whose bins these are.
    """
    bins = integer("bins", bins)
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    operands, event_of = (x, mean, log_scale), (x, mean)
    how = (event_ndim, reduction, mask, weight, x_scale)
    return log_prob_of(DISCRETIZED_LOGISTIC_LOG_PROB, operands, *how, 0.5 / (bins - 1), event_of=event_of)
