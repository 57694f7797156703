"""p(x|z) of counts: log-likelihoods."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._shapes import accumulate_dtype
from ..ops.counts import (
    NEGATIVE_BINOMIAL_LOG_PROB,
    POISSON_LOG_PROB,
    UNNORMALIZED_POISSON_LOG_PROB,
    ZERO_INFLATED_NEGATIVE_BINOMIAL_LOG_PROB,
)
from ._arguments import COUNTS, Reduction, as_operand, check_name, is_number, operands_shape
from ._documents import documented
from ._one_node import one_node
from ._reductions import checked, reduced

__all__ = ["negative_binomial_log_prob", "poisson_log_prob"]

RateAs = Literal["log_rate", "rate"]
MeanAs = Literal["mean", "log_mean", "logits"]
DispersionAs = Literal["inverse_dispersion", "log_inverse_dispersion"]

# As the operators say it.
_RATE_AS = {"log_rate": True, "rate": False}
_MEAN_AS = {"mean": (False, False), "log_mean": (True, False), "logits": (True, True)}  # log_mean, odds
_DISPERSION_AS = {"inverse_dispersion": False, "log_inverse_dispersion": True}


@one_node()
@documented
def poisson_log_prob(
    x: Tensor,
    log_rate: Tensor,
    *,
    normalized: bool = True,
    rate_as: RateAs = "log_rate",
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) = x log rate - rate - log x! in nats, of counts x.

    Args:
        x: not negative, which is not checked: floating, or any integer type.
        log_rate: float32, bfloat16, float16 or float64.
        normalized: False leaves log x! out.
        rate_as: what `log_rate` holds: "log_rate" or "rate".

    Shape:
        x and log_rate broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        log_rate, and in a floating x.

    Reference:
        Loader 2000, "Fast and accurate computation of binomial probabilities", section 4.
    """
    check_name("rate_as", rate_as, _RATE_AS)
    shape = operands_shape(("x", "log_rate"), x, log_rate, values=COUNTS)
    event_ndim, weight = checked(shape, (x, log_rate), event_ndim, reduction, mask, weight)
    constants = (_RATE_AS[rate_as],)
    likelihood = POISSON_LOG_PROB if normalized else UNNORMALIZED_POISSON_LOG_PROB
    return reduced(likelihood, (x, log_rate), weight, event_ndim, constants, shape, reduction)


@one_node()
@documented
def negative_binomial_log_prob(
    x: Tensor,
    mean: Tensor,
    inverse_dispersion: Tensor | float,
    zero_logits: Tensor | None = None,
    *,
    mean_as: MeanAs = "mean",
    dispersion_as: DispersionAs = "inverse_dispersion",
    event_ndim: int | None = None,
    reduction: Reduction = "none",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """log p(x|z) of counts x with the given mean and variance mean + mean^2 / inverse_dispersion, in nats.

    With `zero_logits` zero-inflated: sigmoid(zero_logits) of all mass stands at 0 besides. For inverse_dispersion to
    infinity it is the Poisson distribution, to the last digits.

    Args:
        x: not negative, which is not checked: floating, or any integer type.
        mean: float32, bfloat16, float16 or float64.
        inverse_dispersion: a tensor per element, or broadcast (one for each gene, [D]), or a float.
        zero_logits: logits of a zero that is none of the counts'.
        mean_as: what `mean` holds: "mean", "log_mean", or "logits" (mean = inverse_dispersion exp(logits), as
            torch.distributions has it).
        dispersion_as: what `inverse_dispersion` holds: "inverse_dispersion" or "log_inverse_dispersion".

    Shape:
        x, mean, inverse_dispersion and zero_logits broadcast to [*batch, *event].

    Returns:
        The log-likelihood, [*batch], or 0-d with a `reduction`; float32, float64 where an operand is. Differentiable in
        mean, inverse_dispersion and zero_logits, and, without zero_logits, in a floating x; the gradient of what is
        broadcast has its shape.

    Reference:
        Loader 2000, "Fast and accurate computation of binomial probabilities". Zero-inflated: Lopez et al. 2018, "Deep
        generative modeling for single-cell transcriptomics", supplementary note 3.
    """
    check_name("mean_as", mean_as, _MEAN_AS)
    check_name("dispersion_as", dispersion_as, _DISPERSION_AS)
    if is_number(inverse_dispersion):
        operands_shape(("x", "mean"), x, mean, values=COUNTS)
        inverse_dispersion = as_operand(inverse_dispersion, mean, accumulate_dtype(x, mean))
    operands: tuple[Tensor, ...] = (x, mean, inverse_dispersion)
    likelihood = NEGATIVE_BINOMIAL_LOG_PROB
    if zero_logits is not None:
        operands, likelihood = (*operands, zero_logits), ZERO_INFLATED_NEGATIVE_BINOMIAL_LOG_PROB
    shape = operands_shape(likelihood.operands, *operands, values=COUNTS)
    event_ndim, weight = checked(shape, (x, mean), event_ndim, reduction, mask, weight)
    constants = (*_MEAN_AS[mean_as], _DISPERSION_AS[dispersion_as])
    return reduced(likelihood, operands, weight, event_ndim, constants, shape, reduction)
