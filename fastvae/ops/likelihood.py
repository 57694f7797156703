"""log p(x|z): log-likelihoods summed over the last `event_ndim` dimensions, in nats.

The value `x` comes first and is read as `x * x_scale`; it may be any float type, bool or uint8. Shapes broadcast.
Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from torch.distributions import constraints

from ..formulas import likelihood as formulas
from ._likelihood import Likelihood
from ._operator import SCALE_AS

# x * logits - softplus(logits)
BERNOULLI_LOG_PROB = Likelihood(
    "bernoulli_log_prob",
    "Tensor x, Tensor logits",
    "float x_scale",
    formulas.bernoulli_log_prob,
    formulas.bernoulli_log_prob_gradient,
    constraints.unit_interval,
)

# -((x - mean)^2 / (2 std^2) + log std + log(2 pi) / 2); the last constant only if `normalized`
GAUSSIAN_LOG_PROB = Likelihood(
    "gaussian_log_prob",
    "Tensor x, Tensor mean, Tensor scale",
    f"float x_scale, bool normalized, {SCALE_AS}",
    formulas.gaussian_log_prob,
    formulas.gaussian_log_prob_gradient,
    constraints.real,
)
