"""log p(x|z) of pixels, beside a Bernoulli's and a Gaussian's, summed over the last `event_ndim` dimensions, in nats.

The value `x` comes first and is read as `x * x_scale`; it may be any float type, bool or uint8. Shapes broadcast.
`log_scale` says that a scale's logarithm is given. Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from torch.distributions import constraints

from ..formulas import pixels as formulas
from ._likelihood import Likelihood

# -(|x - mean| / scale + log(2 scale))
LAPLACE_LOG_PROB = Likelihood(
    "laplace_log_prob",
    "Tensor x, Tensor mean, Tensor scale",
    "float x_scale, bool log_scale",
    formulas.laplace_log_prob,
    formulas.laplace_log_prob_gradient,
    constraints.real,
)

# x * logits - log((exp(logits) - 1) / logits)
CONTINUOUS_BERNOULLI_LOG_PROB = Likelihood(
    "continuous_bernoulli_log_prob",
    "Tensor x, Tensor logits",
    "float x_scale",
    formulas.continuous_bernoulli_log_prob,
    formulas.continuous_bernoulli_log_prob_gradient,
    constraints.unit_interval,
)

# log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)), h half a bin; the outermost bins are open
DISCRETIZED_LOGISTIC_LOG_PROB = Likelihood(
    "discretized_logistic_log_prob",
    "Tensor x, Tensor mean, Tensor log_scale",
    "float x_scale, float half_bin",
    formulas.discretized_logistic_log_prob,
    formulas.discretized_logistic_log_prob_gradient,
    constraints.unit_interval,
)
