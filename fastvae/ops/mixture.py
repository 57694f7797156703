"""log p(x|z) of mixtures whose indicator the channels of a pixel share, in nats.

Saved for backward: the operator's arguments.
"""

from __future__ import annotations

from ._mixture import MixtureLikelihood
from .pixels import DISCRETIZED_LOGISTIC_LOG_PROB

DISCRETIZED_LOGISTIC_MIXTURE_LOG_PROB = MixtureLikelihood(DISCRETIZED_LOGISTIC_LOG_PROB)
