"""The functions that users call: arguments are checked, then one operator is called."""

from .likelihood import bernoulli_log_prob, gaussian_log_prob
from .objective import ElboTerms, elbo
from .posterior import kl_normal, kl_standard_normal, rsample, rsample_kl

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
