"""log p(x|z) of counts, summed over the last `event_ndim` dimensions, in nats.

The count `x` comes first; it may be any float or integer type. Shapes broadcast. How parameters are read: `log_rate`,
`log_mean` and `log_dispersion` say that logarithms are given, `odds` that the mean is what is given times the inverse
dispersion. Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from torch.distributions import constraints

from ..formulas import counts as formulas
from ._likelihood import Likelihood

READ_AS = "bool log_mean, bool odds, bool log_dispersion"

# x log(rate) - rate - log x!
POISSON_LOG_PROB = Likelihood(
    "poisson_log_prob",
    "Tensor x, Tensor rate",
    "bool log_rate",
    formulas.poisson_log_prob,
    formulas.poisson_log_prob_gradient,
    constraints.nonnegative_integer,
    long_winded=True,
)

# x log(rate) - rate
UNNORMALIZED_POISSON_LOG_PROB = Likelihood(
    "unnormalized_poisson_log_prob",
    "Tensor x, Tensor rate",
    "bool log_rate",
    formulas.unnormalized_poisson_log_prob,
    formulas.unnormalized_poisson_log_prob_gradient,
    constraints.nonnegative_integer,
)

# log of Gamma(x + t) / (Gamma(t) x!) (t / (t + mean))^t (mean / (t + mean))^x, t the inverse dispersion
NEGATIVE_BINOMIAL_LOG_PROB = Likelihood(
    "negative_binomial_log_prob",
    "Tensor x, Tensor mean, Tensor inverse_dispersion",
    READ_AS,
    formulas.negative_binomial_log_prob,
    formulas.negative_binomial_log_prob_gradient,
    constraints.nonnegative_integer,
    long_winded=True,
)

# the same, and sigmoid(zero_logits) of all mass at 0
ZERO_INFLATED_NEGATIVE_BINOMIAL_LOG_PROB = Likelihood(
    "zero_inflated_negative_binomial_log_prob",
    "Tensor x, Tensor mean, Tensor inverse_dispersion, Tensor zero_logits",
    READ_AS,
    formulas.zero_inflated_negative_binomial_log_prob,
    formulas.zero_inflated_negative_binomial_log_prob_gradient,
    constraints.nonnegative_integer,
    differentiable=("mean", "inverse_dispersion", "zero_logits"),  # at 0 the density jumps in x
    long_winded=True,
)
