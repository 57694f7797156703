"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

from .. import backends
from . import likelihood, noise, objective, posterior

OPERATORS = (
    posterior.RSAMPLE,
    posterior.KL_STANDARD_NORMAL,
    posterior.KL_NORMAL,
    posterior.RSAMPLE_KL,
    likelihood.BERNOULLI_LOG_PROB,
    likelihood.GAUSSIAN_LOG_PROB,
    objective.ELBO,
)

backends.register(tuple(name for op in OPERATORS for name in (op.name, f"{op.name}_backward")) + ("philox",))

__all__ = ["OPERATORS", "likelihood", "noise", "objective", "posterior"]
