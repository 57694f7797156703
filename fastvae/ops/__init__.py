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

ONE_PASS = (likelihood.BERNOULLI_LOG_PROB_ONE_PASS, likelihood.GAUSSIAN_LOG_PROB_ONE_PASS)

backends.register(
    (
        *(name for op in OPERATORS for name in (op.name, f"{op.name}_backward")),
        *(op.name for op in ONE_PASS),
        "rescale_",
        "philox",
    )
)

__all__ = ["ONE_PASS", "OPERATORS", "likelihood", "noise", "objective", "posterior"]
