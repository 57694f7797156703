"""log p(x|z) of classes, whose logits are the last dimension, in nats.

The value `x` comes first, of any float or integer type, and gets no gradient; the logits have the full shape. Saved for
backward: the operator's arguments. What a row's logits have in common, the logarithm of their exponentials' sum, is
found again there: it takes a walk over a row that is in a cache then, and no memory between forward and backward.
"""

from __future__ import annotations

from torch.distributions import constraints

from ..formulas import categorical as formulas
from ._rows import RowLikelihood

# sum of x log softmax(logits); the logarithm of (sum x)! / (x_1! x_2! ...) only if `normalized`
MULTINOMIAL_LOG_PROB = RowLikelihood(
    "multinomial_log_prob",
    "Tensor x, Tensor logits",
    "bool normalized",
    formulas.multinomial_log_prob,
    formulas.multinomial_log_prob_gradient,
    constraints.nonnegative_integer,
    differentiable=("logits",),
)

# log softmax(logits) of the class x, [*batch, 1]
CATEGORICAL_LOG_PROB = RowLikelihood(
    "categorical_log_prob",
    "Tensor x, Tensor logits",
    "",
    formulas.categorical_log_prob,
    formulas.categorical_log_prob_gradient,
    constraints.nonnegative_integer,
    differentiable=("logits",),
)
