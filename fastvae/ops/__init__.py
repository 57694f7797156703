"""The operators' contract: schemas, shapes, what is saved for backward. `fastvae.backends` does the work."""

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

__all__ = ["OPERATORS", "likelihood", "noise", "objective", "posterior"]
