"""log p(x|z) of the output of a linear layer, a decoder's last, that is never whole in memory; in nats.

Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from ._linear import LinearLikelihood
from .categorical import CATEGORICAL_LOG_PROB, MULTINOMIAL_LOG_PROB
from .likelihood import BERNOULLI_LOG_PROB, GAUSSIAN_LOG_PROB

LINEAR_BERNOULLI_LOG_PROB = LinearLikelihood(BERNOULLI_LOG_PROB)

# The layer gives the mean; the scale is an operand of its own.
LINEAR_GAUSSIAN_LOG_PROB = LinearLikelihood(GAUSSIAN_LOG_PROB)

# Rows are whole in every chunk: a softmax spans them.
LINEAR_MULTINOMIAL_LOG_PROB = LinearLikelihood(MULTINOMIAL_LOG_PROB)
LINEAR_CATEGORICAL_LOG_PROB = LinearLikelihood(CATEGORICAL_LOG_PROB)
