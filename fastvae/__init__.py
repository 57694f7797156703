"""fastvae: the evidence lower bound of a variational autoencoder as a handful of fused operators."""

from . import backends, distributions, nn
from .functional import (
    ElboTerms,
    bernoulli_log_prob,
    categorical_log_prob,
    continuous_bernoulli_log_prob,
    discretized_logistic_log_prob,
    discretized_logistic_mixture_log_prob,
    elbo,
    gaussian_log_prob,
    importance_weighted_bound,
    kl_normal,
    kl_standard_normal,
    laplace_log_prob,
    linear_bernoulli_log_prob,
    linear_categorical_log_prob,
    linear_gaussian_log_prob,
    linear_multinomial_log_prob,
    multinomial_log_prob,
    negative_binomial_log_prob,
    poisson_log_prob,
    rsample,
    rsample_kl,
)
from .ops import COMPOSED, CONTRACTS

__version__ = "0.1.0"

__all__ = [
    "ElboTerms",
    "backends",
    "bernoulli_log_prob",
    "categorical_log_prob",
    "continuous_bernoulli_log_prob",
    "discretized_logistic_log_prob",
    "discretized_logistic_mixture_log_prob",
    "distributions",
    "elbo",
    "gaussian_log_prob",
    "importance_weighted_bound",
    "kl_normal",
    "kl_standard_normal",
    "laplace_log_prob",
    "linear_bernoulli_log_prob",
    "linear_categorical_log_prob",
    "linear_gaussian_log_prob",
    "linear_multinomial_log_prob",
    "multinomial_log_prob",
    "negative_binomial_log_prob",
    "nn",
    "poisson_log_prob",
    "rsample",
    "rsample_kl",
]

backends.register(CONTRACTS | COMPOSED)
