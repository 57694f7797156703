"""fastvae: the evidence lower bound of a variational autoencoder as a handful of fused operators."""

from .functional import bernoulli_log_prob, gaussian_log_prob, kl_normal, kl_standard_normal, rsample, rsample_kl
from .objective import ElboTerms, elbo

__version__ = "0.1.0"

__all__ = [
    "ElboTerms",
    "bernoulli_log_prob",
    "elbo",
    "gaussian_log_prob",
    "kl_normal",
    "kl_standard_normal",
    "rsample",
    "rsample_kl",
]
